"""``python -m containers.cluster.own_sys FOLDER PROGRAM...``: run a program that sees power counters in /sys.

Slurm reads them from /sys/cray/pm_counters, which the kernel makes on few machines and nobody else can. So
the program gets mounts of its own: a /sys that is the real one with FOLDER added. Nobody else sees that; it
goes with the last process that the program leaves.
"""

import os
import sys
from pathlib import Path

from containers.cluster.mounts import keep_mounts_private, sys_with_counters


def main(words: list[str]) -> None:
    """Become the program; raises OSError."""
    keep_mounts_private()
    sys_with_counters(Path(words[0]))
    os.execv(words[1], words[1:])  # noqa: S606  # the lab's own command line


if __name__ == "__main__":
    main(sys.argv[1:])
