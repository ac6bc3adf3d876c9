"""What cannot be built is refused with exit status 2 before anything is changed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from containers.cluster.host import check_root, refuse_configured_host
from containers.cluster.layout import CHECKOUT, RefusedError
from containers.cluster.mounts import closed_door
from containers.cluster.ports import assign, reserve_block

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gets far enough to be refused this")


def up(*arguments: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "containers.cluster", "up", *arguments]
    return subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)


def host_with(root: Path, *files: str) -> Path:
    for name in files:
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("slurmctld\n")
    return root


@needs_root
@pytest.mark.parametrize(
    ("file", "named"),
    [
        ("etc/slurm/slurm.conf", "etc/slurm/slurm.conf"),
        ("etc/slurm-llnl/slurm.conf", "etc/slurm-llnl/slurm.conf"),
        ("etc/munge/munge.key", "etc/munge/munge.key"),
        ("proc/4711/comm", "slurmctld (process 4711)"),
    ],
)
def test_configured_host(tmp_path: Path, file: str, named: str) -> None:
    root = host_with(tmp_path, file)
    made = up("--nodes=1", "--dir", "/tmp/sp-refused", "--host-root", str(root))
    assert made.returncode == 2
    assert named in made.stderr
    assert "--yes" in made.stderr
    assert not Path("/tmp/sp-refused").exists()


def test_a_plain_chroot_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """There `/` belongs to a mount outside, and unshare could only say "Invalid argument"."""
    mounts = tmp_path / "mountinfo"
    mounts.write_text("31 25 0:28 / /proc rw,relatime - proc proc rw\n")
    with pytest.raises(RefusedError, match="mount --bind DIR DIR"):
        check_root(mounts)
    mounts.write_text("25 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n")
    check_root(mounts)


def test_key_made_by_the_package_is_no_configuration(tmp_path: Path) -> None:
    root = host_with(tmp_path, "etc/munge/munge.key", "var/lib/dpkg/info/munge.list")
    refuse_configured_host(root)
    os.utime(root / "etc/munge/munge.key", (0, 0))  # a key from elsewhere, copied with its time
    with pytest.raises(RefusedError, match=r"munge\.key"):
        refuse_configured_host(root)


def test_packages_key_counts_once_munged_runs(tmp_path: Path) -> None:
    root = host_with(tmp_path, "etc/munge/munge.key", "var/lib/dpkg/info/munge.list", "proc/12/comm")
    (root / "proc/12/comm").write_text("munged\n")
    with pytest.raises(RefusedError, match=r"munged \(process 12\), .*munge\.key"):
        refuse_configured_host(root)


def test_a_munged_with_a_key_of_its_own_serves_no_host(tmp_path: Path) -> None:
    root = host_with(tmp_path, "proc/12/comm", "proc/12/cmdline")
    (root / "proc/12/comm").write_text("munged\n")
    (root / "proc/12/cmdline").write_bytes(b"munged\0--key-file=/tmp/x/munge.key\0")
    refuse_configured_host(root)
    (root / "proc/12/cmdline").write_bytes(b"munged\0--key-file=/etc/munge/munge.key\0")
    with pytest.raises(RefusedError, match=r"munged"):
        refuse_configured_host(root)


@needs_root
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--wrong"], "unrecognized arguments: --wrong"),
        (["--nodes=0"], "--nodes 0: must be between 1 and 32"),
        (["--gpus=99"], "--gpus 99: must be between 1 and 16"),
        (["--scenario=/etc/passwd"], "--scenario: needs --power"),
        (["--power", "--plant=/nowhere/plant.toml"], "no such file"),
        (["--power", "--energy-accounting"], "--energy-accounting: needs --power, whose plant feeds"),
        (["--dir", "/tmp/" + "x" * 60], "would not fit"),
        (["--dir", "/tmp/sp refused"], "cannot hold such a path"),
        (["--dir", "/etc"], "exists and is no lab of ours"),
    ],
)
def test_bad_input(arguments: list[str], says: str) -> None:
    made = up(*arguments)
    assert made.returncode == 2
    assert says in made.stderr
    assert "Traceback" not in made.stderr


@needs_root
def test_directory_behind_a_closed_door(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    made = up("--dir", str(tmp_path / "x"))
    assert made.returncode == 2
    assert not (tmp_path / "x").exists()


@needs_root
def test_not_root() -> None:
    # It drops its rights after loading: users may not even enter the checkout.
    program = (
        "import os, sys; from containers.cluster.__main__ import main;"
        "os.setgroups([]); os.setgid(65534); os.setuid(65534); sys.exit(main(['up']))"
    )
    argv = [sys.executable, "-c", program]
    made = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60, cwd=CHECKOUT)
    assert made.returncode == 2
    assert "needs root" in made.stderr


def test_closed_door_is_the_outermost(tmp_path: Path) -> None:
    inner = tmp_path / "a" / "b" / "c"
    inner.mkdir(parents=True)
    for folder in (tmp_path / "a", tmp_path / "a" / "b"):
        folder.chmod(0o700)
    door = closed_door(inner)
    assert door is not None
    assert door in inner.parents
    assert not door.stat().st_mode & 0o001
    assert all(parent.stat().st_mode & 0o001 for parent in door.parents)


def test_port_blocks_do_not_meet() -> None:
    blocks = [reserve_block() for _ in range(5)]
    try:
        numbers = [port for base, _claim in blocks for port in _flat(assign(base, 32))]
        assert len(set(numbers)) == len(numbers)
        assert all(1024 < port < 32768 for port in numbers)
    finally:
        for _base, claim in blocks:
            claim.close()


def _flat(ports: dict[str, object]) -> list[int]:
    found: list[int] = []
    for value in ports.values():
        found += _flat(value) if isinstance(value, dict) else [value] if isinstance(value, int) else []
    return found
