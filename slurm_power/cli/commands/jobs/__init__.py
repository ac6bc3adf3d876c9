"""`slurm-power jobs` and what jobs used."""
