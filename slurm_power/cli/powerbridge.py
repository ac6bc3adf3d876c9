"""powerbridge: signals of the grid in, reports and alerts out, beside powerctld."""

import sys

from slurm_power.cli.extra import run


def main() -> int:
    """Run powerbridge; returns the exit status."""
    return run("slurm_power.cli.powerbridge_run", extra="bridge", later=("httpx", "openleadr"))


if __name__ == "__main__":
    sys.exit(main())
