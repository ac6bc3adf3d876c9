"""``python -m slurm_power.forecaster``: started by powerctld, ends when powerctld closes its stdin."""

import os
import signal
import sys

from slurm_power.forecaster.worker import serve
from slurm_power.systemd import start_logging

# Forecasts can wait, the control loop beside them cannot.
_NICENESS = 10


def main() -> int:
    """Serve until stdin ends; returns the exit status."""
    # A terminal or a service manager signals the whole group; who decides about us is powerctld alone.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.nice(_NICENESS)
    start_logging("INFO", "forecast")
    return serve(sys.stdin.fileno(), sys.stdout.fileno())


if __name__ == "__main__":
    sys.exit(main())
