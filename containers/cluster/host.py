"""Look at the host before a lab is built: does a Slurm or MUNGE live here, what is installed?"""

import os
import re
import shutil
import subprocess
from pathlib import Path

from containers.cluster.layout import CHECKOUT, LONGEST_RUN_DIRECTORY, LabError, RefusedError

DAEMONS = frozenset({"slurmctld", "slurmd", "slurmdbd", "munged"})
SLURM_CONFIGURATIONS = ("etc/slurm/slurm.conf", "etc/slurm-llnl/slurm.conf")
# Debian's munge creates a key when it is configured, seconds to minutes after its files were unpacked.
PACKAGE_KEY_SECONDS = 300.0


def refuse_configured_host(root: Path = Path("/")) -> None:
    """Raise RefusedError naming every Slurm or MUNGE found on the host that is not a lab's.

    Labs and containers have process namespaces of their own, so only processes in ours count.
    """
    found = foreign_daemons(root)
    running = bool(found)
    found += [f"{file}" for name in SLURM_CONFIGURATIONS if (file := root / name).exists()]
    key = root / "etc/munge/munge.key"
    if key.exists() and (running or not _is_packages_own(key, root)):
        found.append(f"{key}")
    if found:
        raise RefusedError(
            f"this host already runs or has configured Slurm or MUNGE: {', '.join(found)}. "
            "A lab changes nothing outside its own directory; to build one all the same, give --yes"
        )


def foreign_daemons(root: Path) -> list[str]:
    """List Slurm's and MUNGE's daemons in our process namespace, as 'NAME (process PID)'."""
    ours = _namespace(root / "proc" / "self")
    found = []
    for process in (root / "proc").glob("[0-9]*"):
        try:
            name = (process / "comm").read_text().strip()
        except OSError:  # it ended meanwhile
            continue
        if name in DAEMONS and _namespace(process) == ours and not _keeps_to_itself(process):
            found.append(f"{name} (process {process.name})")
    return sorted(found)


def _keeps_to_itself(process: Path) -> bool:
    """Tell whether a munged was started with a key file of its own, so that it serves no host."""
    try:
        words = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return False
    keys = [word.removeprefix("--key-file=") for word in words if word.startswith("--key-file=")]
    return bool(keys) and not any(key.startswith("/etc/munge/") for key in keys)


def _namespace(process: Path) -> str | None:
    try:
        return str((process / "ns" / "pid").readlink())
    except OSError:
        return None


def _is_packages_own(key: Path, root: Path) -> bool:
    listing = root / "var/lib/dpkg/info/munge.list"
    if not listing.exists():
        return False
    age_seconds = key.stat().st_mtime - listing.stat().st_mtime
    return abs(age_seconds) <= PACKAGE_KEY_SECONDS


def install_packages(groups: list[str]) -> None:
    """Install what is missing of the package groups; raises LabError with what the installer said."""
    script = CHECKOUT / "containers" / "install-packages.sh"
    done = subprocess.run(["bash", str(script), *groups], check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        raise LabError(f"{script.name} {' '.join(groups)} failed with status {done.returncode}")


def slurm_version(root: Path = Path("/")) -> tuple[int, int]:
    """Ask slurmd for its version, as (22, 5)."""
    argv = [*enter(root), "/usr/sbin/slurmd", "-V"]
    said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    match = re.search(r"(\d+)\.(\d+)", said)
    if match is None:
        raise LabError(f"slurmd -V said {said!r}, which holds no version")
    return int(match[1]), int(match[2])


def enter(root: Path) -> tuple[str, ...]:
    """Return the words before a command that finds its programs below ``root``; it then starts in ``/``."""
    return () if root == Path("/") else ("/usr/sbin/chroot", str(root))


def check_tools() -> None:
    """Raise RefusedError unless we are root on Linux with the two programs that make namespaces."""
    if os.geteuid() != 0:
        raise RefusedError("a lab needs root: it starts daemons that run other users' jobs")
    for program in ("unshare", "nsenter", "setpriv"):
        if shutil.which(program) is None:
            raise RefusedError(f"{program} not found; install util-linux")


def check_root(mounts: Path = Path("/proc/self/mountinfo")) -> None:
    """Raise RefusedError where ``/`` is no mount, as in a plain chroot.

    A lab keeps its mounts to itself by making the one they lie on private, which there is out of reach.
    """
    if not any(line.split()[4] == "/" for line in mounts.read_text().splitlines()):
        raise RefusedError(
            "/ is not a mount point, as in a plain chroot, so a lab's mounts could not be kept apart; "
            "bind the directory to itself before the chroot (mount --bind DIR DIR), or boot it as a container"
        )


def check_place(run: Path, *, fresh: bool) -> None:
    """Raise RefusedError when ``run`` cannot hold a lab; ``fresh``: we have just made it ourselves."""
    if len(os.fsencode(run)) > LONGEST_RUN_DIRECTORY:
        raise RefusedError(
            f"{run}: longer than {LONGEST_RUN_DIRECTORY} bytes, its Unix sockets would not fit; "
            "choose a shorter --dir"
        )
    if re.search(r"[^\w./+-]", str(run)):
        raise RefusedError(f"{run}: Slurm's files cannot hold such a path; use letters, digits and ./_+-")
    for parent in run.parents:
        if parent.exists() and not parent.stat().st_mode & 0o001:
            raise RefusedError(
                f"{parent}: other users cannot enter it (chmod o+x), so no job could run in {run}"
            )
    if fresh or not run.exists():
        return
    if (run / "etc" / "testbed.json").exists():
        raise RefusedError(f"{run}: holds a lab already; end it first with: down --dir {run}")
    if not run.is_dir() or any(run.iterdir()):
        raise RefusedError(f"{run}: exists and is no lab of ours; choose another --dir")
