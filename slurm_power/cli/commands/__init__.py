"""The subcommands of ``slurm-power``, by what they are about, and what they share."""
