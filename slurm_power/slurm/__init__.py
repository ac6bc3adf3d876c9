"""Slurm: the scheduler port's adapters and the readers of what Slurm prints."""
