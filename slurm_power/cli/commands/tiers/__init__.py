"""`slurm-power tiers` and `gateway`."""
