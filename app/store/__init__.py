"""What is kept: the database, versions, keys, feedback, recent predictions."""
