"""The node's key and certificate on disk: whole or not at all, and what is said when they cannot be read."""

import subprocess
from pathlib import Path

import pytest

from slurm_power import clock
from slurm_power.controller.sensing.authority import make_authority
from slurm_power.node.identity import Identity
from slurm_power.wire import WireError


@pytest.fixture
def identity(tmp_path: Path) -> Identity:
    make_authority(tmp_path / "tls", "test", ["127.0.0.1"], clock.now())
    (tmp_path / "front").mkdir()
    return Identity(tmp_path / "front", "c1", tmp_path / "tls" / "ca.pem")


def test_a_key_is_made_once_and_only_its_owner_reads_it(identity: Identity, tmp_path: Path) -> None:
    key = tmp_path / "front" / "node.key"
    assert "CERTIFICATE REQUEST" in identity.request()
    first = key.read_bytes()
    assert key.stat().st_mode & 0o777 == 0o600
    identity.request()
    assert key.read_bytes() == first
    assert sorted(path.name for path in key.parent.iterdir()) == ["node.csr", "node.key"]


def test_an_empty_key_as_a_full_disk_leaves_it_is_made_anew(identity: Identity, tmp_path: Path) -> None:
    (tmp_path / "front" / "node.key").touch()
    assert "CERTIFICATE REQUEST" in identity.request()


def test_a_key_that_could_not_be_made_whole_is_no_key(
    identity: Identity, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "bin" / "openssl"
    broken.parent.mkdir()
    broken.write_text(
        "#!/bin/sh\n"
        'while [ $# -gt 1 ]; do case $1 in -out|-keyout) printf half >"$2";; esac; shift; done\n'
        "exit 1\n"
    )
    broken.chmod(0o755)
    with monkeypatch.context() as context:
        context.setenv("PATH", str(broken.parent))
        with pytest.raises(WireError, match="openssl"):
            identity.request()
    assert not (tmp_path / "front" / "node.key").exists()
    assert "CERTIFICATE REQUEST" in identity.request()


def test_what_cannot_be_read_is_called_by_its_name(identity: Identity, tmp_path: Path) -> None:
    front = tmp_path / "front"
    identity.request()
    command = ["openssl", "req", "-x509", "-key", str(front / "node.key"), "-subj", "/CN=c1"]
    subprocess.run([*command, "-out", str(front / "node.pem")], check=True, capture_output=True)
    identity.context()
    (front / "node.key").unlink()
    (front / "node.key").mkdir()
    with pytest.raises(WireError, match=r"node\.key: Is a directory"):
        identity.context()


def test_a_broken_ca_file_costs_no_certificate(identity: Identity, tmp_path: Path) -> None:
    front = tmp_path / "front"
    identity.request()
    (front / "node.pem").write_text("a certificate")
    (tmp_path / "tls" / "ca.pem").write_text("no certificate")
    with pytest.raises(WireError, match="ca_file"):
        identity.context()
    assert (front / "node.pem").exists()
