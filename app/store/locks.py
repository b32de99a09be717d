"""What a transaction can be alone with: `database.write(locks.VERSIONS)`.

On SQLite there is one writer at a time anyway. On Postgres, at READ COMMITTED, what a transaction has looked at
may be changed by another before it writes, unless that one wants to be alone with the same.
"""

QUEUE = "queue"  # the number of unfinished jobs
VERSIONS = "versions"  # versions, aliases, and the audit list, whose numbers grow in the order of commits
DATASETS = "datasets"  # numbers of versions, bytes, what a deletion spares
FEEDBACK = "feedback"  # the number of corrections and their bytes
PREDICTIONS = "predictions"  # what is forgotten, by several processes at once
ANSWERED = "answered"  # rows of hours, which every process adds to, and what has drifted
KEYS = "keys"  # whether there is a first one
