"""Programs a lab needs where its Slurm lies in a root directory of its own (``Options.slurm_root``).

Slurm's daemons, its commands, jobs and users live in that root; our own daemons stay on the host, with the
virtual environment, and reach that Slurm through wrappers of its commands.
"""

import os
import shlex
from pathlib import Path

from containers.cluster.host import enter
from containers.cluster.lab import Lab
from containers.cluster.layout import CHECKOUT, Layout

CLIENTS = (
    *(
        "sacct",
        "sacctmgr",
        "salloc",
        "sattach",
        "sbatch",
        "sbcast",
        "scancel",
        "scontrol",
        "scrontab",
        "sdiag",
    ),
    *("sinfo", "sprio", "squeue", "sreport", "srun", "sshare", "sstat", "strigger"),
)


def write_root_programs(layout: Layout) -> None:
    """Write psbatch for the root's own interpreter, and Slurm's commands for our programs on the host."""
    program = layout.run / "bin" / "psbatch"
    # As it is installed: on its interpreter alone, whatever its caller has set for another.
    program.write_text(
        f"#!{layout.python} -I\nimport sys\n\nsys.path.append({str(CHECKOUT)!r})\n"
        "from slurm_power.cli.psbatch import main\n\nsys.exit(main())\n"
    )
    program.chmod(0o755)
    write_clients(layout.slurm_root, layout.clients)


def write_clients(root: Path, folder: Path, *before: str) -> None:
    """Write wrappers of Slurm's commands into ``folder``: same words, environment, input, working directory.

    ``before``: the words that lead into the lab's namespaces, for programs that run outside them.
    """
    folder.mkdir(exist_ok=True)
    for client in CLIENTS:
        inside = 'cd "$1" 2>/dev/null; shift; exec "$@"'
        words = [*before, *enter(root), "/bin/sh", "-c", inside, client]
        _write(folder / client, f'exec {shlex.join(words)} "$PWD" /usr/bin/{client}')


def outside_path(lab: Lab) -> str:
    """Return the PATH with which a program outside the lab's namespaces uses the lab's own Slurm."""
    if not lab.layout.options.slurm_root:
        return os.environ["PATH"]
    folder = lab.run_directory / "outside"
    into = ["/usr/bin/nsenter", "--target", str(lab.supervisor_pid), "--mount", "--pid", "--"]
    write_clients(lab.layout.slurm_root, folder, *into)
    return f"{folder}:{os.environ['PATH']}"


def _write(program: Path, command: str) -> None:
    program.write_text(f'#!/bin/sh\n{command} "$@"\n')
    program.chmod(0o755)
