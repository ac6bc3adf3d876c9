"""``slurm-power ca init`` with wrong names changes nothing and tells them all."""

from pathlib import Path

from click.testing import CliRunner

from slurm_power.cli.slurm_power import main


def test_wrong_hosts_are_told_together_and_nothing_is_made(tmp_path: Path) -> None:
    folder = str(tmp_path / "tls")
    wrong = CliRunner().invoke(
        main, ["ca", "init", "--directory", folder, "--host", "", "--host", "ü.example", "--host", "good"]
    )
    assert wrong.exit_code == 2
    assert "--host: '' is neither" in wrong.output
    assert "--host: 'ü.example' is neither" in wrong.output
    assert not Path(folder).exists()
    words = ["--directory", folder, "--host", "power.cluster", "--host", "2001:db8::1"]
    right = CliRunner().invoke(main, ["ca", "init", *words])
    assert right.exit_code == 0, right.output
    before = (Path(folder) / "server.pem").read_bytes()
    assert CliRunner().invoke(main, ["ca", "renew", "--directory", folder, "--host", "a b"]).exit_code == 2
    assert (Path(folder) / "server.pem").read_bytes() == before
