"""Training on another machine of a Ray cluster, watched by the job's own process."""
