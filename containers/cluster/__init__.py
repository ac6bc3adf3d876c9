"""A lab: a real Slurm of several nodes as plain processes, in its own directory and its own namespaces."""
