"""Other versions of Slurm than the host's, each with the Debian that carries it, in a root directory."""
