"""powerctld: the controller daemon."""

import sys

from slurm_power.cli.extra import run


def main() -> int:
    """Run powerctld; returns the exit status."""
    return run("slurm_power.cli.powerctld_run", extra="controller")


if __name__ == "__main__":
    sys.exit(main())
