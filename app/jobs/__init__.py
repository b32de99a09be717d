"""Training as jobs: the queue in the database, the supervisor, the executor that runs one."""
