"""Mounts inside a lab's namespace: its own /etc, a way for users to the checkout, power counters in /sys."""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from containers.cluster.layout import CHECKOUT, USERS

MS_BIND, MS_MOVE, MS_REC, MS_PRIVATE = 4096, 8192, 16384, 1 << 18
CLONE_NEWNS = 0x00020000
SYS = Path("/sys")


def give_own_etc(files: Path, spare: Path, etc: Path = Path("/etc")) -> None:
    """Mount a copy of ``etc``, with the lab's passwd, group and hosts from the folder ``files``, over it.

    Mounts over the single files would not last: Linux drops a mount whose file is replaced by rename(2), as
    useradd and every package with a user of its own do on the host. The copy lies in memory, seen by nobody
    outside, for it holds /etc/shadow. ``spare`` is an empty folder that it is made on. Raises OSError.
    """
    _mount(b"tmpfs", spare, b"tmpfs", 0, b"mode=0755,size=256m")
    # A file that vanishes under cp is no reason to stop; the three that matter are written next.
    subprocess.run(["cp", "-a", f"{etc}/.", str(spare)], check=False, capture_output=True)
    for name in ("passwd", "group", "hosts"):
        target = spare / name
        target.unlink(missing_ok=True)
        shutil.copyfile(files / name, target)
        target.chmod(0o644)
    # slurmd calls su for what --export=NONE means, and newer ones of PAM want a line there.
    with (spare / "shadow").open("a") as shadow:
        shadow.writelines(f"{user.name}:*:20000:0:99999:7:::\n" for user in USERS)
    _mount(os.fsencode(spare), etc, None, MS_MOVE, None)


def furnish(root: Path, folders: Sequence[Path]) -> None:
    """Give a root directory the devices, processes and temporary files of ours, and ``folders``; OSError.

    Only in our mount namespace. Other users must reach all of it, so a closed folder on the way is covered by
    an empty one.
    """
    _mount(b"proc", root / "proc", b"proc", 0, None)
    for folder in (Path("/dev"), Path("/sys")):
        _mount(os.fsencode(folder), root / folder.relative_to("/"), None, MS_BIND | MS_REC, None)
    _mount(b"/tmp", root / "tmp", None, MS_BIND, None)
    for folder in folders:
        target = root / folder.relative_to("/")
        if target.exists() and target.samefile(folder):
            continue
        door = next(
            (way for way in reversed(target.parents) if way.is_relative_to(root) and _closed(way)), None
        )
        if door is not None:
            _mount(b"tmpfs", door, b"tmpfs", 0, b"mode=0755,size=1m")
        target.mkdir(parents=True, exist_ok=True)
        _mount(os.fsencode(folder), target, None, MS_BIND | MS_REC, None)


def make_visible() -> None:
    """Make the interpreter and the checkout reachable for all users, in our mount namespace only.

    A clone in /root lies behind a door that users cannot pass. That door is covered by an empty file system
    that holds nothing but the way to the folders in question. Raises OSError.
    """
    wanted = {
        CHECKOUT,
        Path(sys.prefix),
        Path(sys.base_prefix),
        Path(os.path.realpath(sys.executable)).parent,
    }
    doors: dict[Path, list[tuple[Path, int]]] = {}
    for folder in sorted(wanted):
        door = closed_door(folder)
        if door is not None:
            doors.setdefault(door, []).append((folder, os.open(folder, os.O_PATH)))
    for door, folders in doors.items():
        _mount(b"tmpfs", door, b"tmpfs", 0, b"mode=0755,size=1m")
        for folder, handle in folders:
            if not folder.exists():  # a folder inside one that is mounted already needs no mount of its own
                folder.mkdir(parents=True)
                _mount(f"/proc/self/fd/{handle}".encode(), folder, None, MS_BIND | MS_REC, None)
            os.close(handle)


def keep_mounts_private() -> None:
    """Leave this process with mounts that nobody else sees; raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNS) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "unshare")
    _mount(b"none", Path("/"), None, MS_REC | MS_PRIVATE, None)


def sys_with_counters(folder: Path) -> None:
    """Show a node's counters and its board's power sensor: /sys becomes what it was, with these in it.

    ``folder`` is /sys/cray/pm_counters, and what it has as ``hwmon`` is /sys/class/hwmon. Everything else
    that was there is mounted again; Slurm's daemons do not start on a /sys without cgroups and CPUs. Raises
    OSError.
    """
    added = {"cray/pm_counters": folder, "class/hwmon": folder / "hwmon"}
    kept = {entry.name: entry for entry in SYS.iterdir() if entry.name != "class"}
    kept |= {f"class/{entry.name}": entry for entry in (SYS / "class").iterdir()}
    handles = {name: os.open(source, os.O_PATH) for name, source in {**kept, **added}.items()}
    _mount(b"tmpfs", SYS, b"tmpfs", 0, b"mode=0755,size=1m")
    for name, handle in handles.items():
        (SYS / name).mkdir(parents=True, exist_ok=True)
        _mount(f"/proc/self/fd/{handle}".encode(), SYS / name, None, MS_BIND | MS_REC, None)
        os.close(handle)


def closed_door(folder: Path) -> Path | None:
    """Return the outermost folder above ``folder`` that others may not enter, or None."""
    return next((parent for parent in reversed(folder.parents) if _closed(parent)), None)


def _closed(folder: Path) -> bool:
    return folder.exists() and not folder.stat().st_mode & 0o001


def _mount(source: bytes, target: Path, kind: bytes | None, flags: int, data: bytes | None) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(source, os.fsencode(target), kind, ctypes.c_ulong(flags), data) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))
