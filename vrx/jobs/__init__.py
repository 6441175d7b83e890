"""What `vrx` can do, one file a job; each is a function of a checked run."""
