"""Make and keep root directories of other Debian releases, with the Slurm that each of them carries.

A root is made by debootstrap from the mirror that the host's own apt uses, and kept under one directory
until it is outdated. While it is made it has another name, so that an interrupted attempt is never taken
for a root.
"""

import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

DEFAULT_DIRECTORY = Path("/tmp/slurm-power-versions")  # noqa: S108 - a cache that everybody may look at
DIRECTORY_VARIABLE = "SLURM_POWER_VERSIONS_DIR"
PACKAGES = (
    *("slurmctld", "slurmd", "slurmdbd", "slurm-client", "slurm-wlm-basic-plugins", "libslurm-dev"),
    *("munge", "gcc", "libc6-dev", "lua5.1", "python3"),
)
RECORD = "slurm-power-root.json"
NEVER_STARTS = "#!/bin/sh\nexit 101\n"
APT_SECONDS = 1800.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """A version of Slurm and the Debian that carries it; ``most_days``: how old its root may grow."""

    slurm: str
    debian: str
    most_days: float | None = None


RELEASES = {
    release.slurm: release
    for release in (
        Release(slurm="24.11", debian="trixie"),
        # Testing moves: what lies here must not hide that for long.
        Release(slurm="26.05", debian="testing", most_days=14.0),
    )
}


class RootError(Exception):
    """A root cannot be made; the message is for the person at the terminal."""


class MovedOnError(RootError):
    """The Debian release carries another Slurm by now."""


def directory() -> Path:
    """Where roots are kept: what the environment says, else below /tmp."""
    return Path(os.environ.get(DIRECTORY_VARIABLE) or DEFAULT_DIRECTORY)


def release_of(slurm: str) -> Release:
    """Return the release of a version; raises RootError naming those there are."""
    if slurm not in RELEASES:
        raise RootError(
            f"Slurm {slurm!r}: not among the versions that are tested here: {', '.join(RELEASES)}"
        )
    return RELEASES[slurm]


def root_of(slurm: str, *, say: Callable[[str], None] = lambda _text: None) -> Path:
    """Return the root directory with this Slurm, made now if it is missing or outdated.

    Raises MovedOnError where Debian's release carries another Slurm by now, RootError if it cannot be made.
    """
    release = release_of(slurm)
    root = directory() / release.debian
    with _locked(root):
        if not _is_current(root, release):
            _make(root, release, say)
    found = _record(root).get("slurm", "")
    if not re.match(rf"{re.escape(slurm)}\b", str(found)):
        raise MovedOnError(f"Debian {release.debian} carries Slurm {found} now, not {slurm}")
    return root


def slurm_version(root: Path) -> str:
    """Return the exact version of Slurm in a root, such as 24.11.5."""
    return str(_record(root)["slurm"])


@contextlib.contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Let one process at a time look at or make a root."""
    if os.geteuid() != 0:
        raise RootError("only root can make and enter root directories")
    root.parent.mkdir(parents=True, exist_ok=True)
    with root.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _record(root: Path) -> dict[str, object]:
    try:
        record = json.loads((root / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _is_current(root: Path, release: Release) -> bool:
    record = _record(root)
    if record.get("packages") != list(PACKAGES):
        return False
    age_seconds = time.time() - (root / RECORD).stat().st_mtime
    return release.most_days is None or age_seconds < release.most_days * 86400.0


def _make(root: Path, release: Release, say: Callable[[str], None]) -> None:
    program = shutil.which("debootstrap")
    if program is None:
        raise RootError("debootstrap is missing; run containers/install-packages.sh versions")
    fresh = root.with_suffix(".new")
    began = time.monotonic()
    for leftover in (fresh, root):
        shutil.rmtree(leftover, ignore_errors=True)
    say(f"making a root of Debian {release.debian} from the host's package mirror")
    log = root.with_suffix(".log")
    with log.open("wb") as output:
        _logged([program, "--variant=minbase", release.debian, str(fresh), mirror()], output, log)
        _configure(fresh)
        install = ["apt-get", "install", "-q", "-y", "--no-install-recommends", *PACKAGES]
        _logged(["chroot", str(fresh), *install], output, log, binds=("/proc", "/dev", "/sys"))
    printed = subprocess.run(
        ["chroot", str(fresh), "/usr/sbin/slurmd", "-V"], check=True, capture_output=True, text=True
    ).stdout
    version = printed.split()[-1]
    record = {"slurm": version, "debian": release.debian, "packages": list(PACKAGES)}
    (fresh / RECORD).write_text(json.dumps(record) + "\n")
    shutil.rmtree(fresh / "var/cache/apt/archives", ignore_errors=True)
    fresh.rename(root)
    say(f"Debian {release.debian} with Slurm {version} lies in {root} ({time.monotonic() - began:.0f} s)")


def _configure(root: Path) -> None:
    """No service starts on installation, nothing is synced to disk file by file, no manuals."""
    policy = root / "usr/sbin/policy-rc.d"
    policy.write_text(NEVER_STARTS)
    policy.chmod(0o755)
    excluded = "".join(f"path-exclude /usr/share/{name}/*\n" for name in ("man", "doc", "locale"))
    (root / "etc/dpkg/dpkg.cfg.d/slurm-power").write_text(f"force-unsafe-io\n{excluded}")
    # debootstrap takes the host's resolv.conf along; a proxy of the host's apt is needed just as much.
    printed = subprocess.run(["apt-config", "dump"], check=True, capture_output=True, text=True).stdout
    kept = [line for line in printed.splitlines() if re.match(r"Acquire::https?::Proxy\b", line)]
    (root / "etc/apt/apt.conf.d/90slurm-power").write_text("".join(f"{line}\n" for line in kept))


def mirror() -> str:
    """Return the address of the Debian archive in the host's own list of sources; raises RootError."""
    for refresh in (False, True):
        if refresh:  # without package lists apt names no source
            subprocess.run(["apt-get", "update", "-q"], check=False, capture_output=True)
        form = "$(ORIGIN) $(LABEL) $(SITE)"
        line = ["apt-get", "indextargets", "--format", form, "Created-By: Packages"]
        printed = subprocess.run(line, check=False, capture_output=True, text=True).stdout
        found = [words[2] for row in printed.splitlines() if (words := row.split())[:2] == ["Debian"] * 2]
        if found:
            return found[0]
    raise RootError(
        "the host's apt knows no mirror of Debian; add one to its sources, then run apt-get update"
    )


def _logged(words: list[str], output: BinaryIO, log: Path, *, binds: tuple[str, ...] = ()) -> None:
    """Run a command in namespaces of its own, so that an interrupted one leaves no process and no mount."""
    root = words[1]
    mounts = "".join(f'mount --rbind {folder} "$0{folder}"; ' for folder in binds)
    line = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--", "sh", "-euc", f'{mounts}exec "$@"']
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "DEBIAN_FRONTEND": "noninteractive",
        "LC_ALL": "C.UTF-8",
        **{name: value for name, value in os.environ.items() if name.lower().endswith("_proxy")},
    }
    done = subprocess.run(
        [*line, root, *words],
        check=False,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        env=environment,
        timeout=APT_SECONDS,
    )
    if done.returncode != 0:
        said = log.read_text(errors="replace").strip().splitlines()[-5:]
        raise RootError(f"{Path(words[0]).name} ended with status {done.returncode}: " + "\n".join(said))
