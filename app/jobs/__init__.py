"""Training as jobs: the queue in the database, the supervisor, the engine that runs one."""
