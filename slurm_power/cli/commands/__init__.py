"""The subcommands of ``slurm-power``, one file each, and what they share."""
