"""What init, check and uninstall say to wrong input: all at once, exit status 2, nothing changed."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from slurm_power.cli.slurm_power import main

PROGRAMS = ("scontrol", "squeue")


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


@pytest.fixture
def mute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A slurm.conf whose slurmctld does not answer: the commands end as they do then."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in PROGRAMS:
        (folder / name).write_text(
            "#!/bin/sh\necho 'Unable to contact slurm controller (connect failure)' >&2\nexit 1\n"
        )
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    monkeypatch.delenv("SLURM_CONF", raising=False)
    conf = tmp_path / "slurm.conf"
    conf.write_text("ClusterName=mute\n")
    return conf


def test_a_slurm_conf_that_is_not_there_is_told(tmp_path: Path) -> None:
    for command, option in (("init", "--dir"), ("uninstall", "--config-directory")):
        result = run(command, option, tmp_path / "out", "--slurm-conf", tmp_path / "none.conf")
        assert result.exit_code == 2
        assert "none.conf: no such file; --slurm-conf names Slurm's configuration" in result.output
    assert not (tmp_path / "out").exists()


def test_a_slurm_that_does_not_answer_is_told(mute: Path, tmp_path: Path) -> None:
    result = run("init", "--dir", tmp_path / "out", "--slurm-conf", mute)
    assert result.exit_code == 2
    assert "Slurm does not answer: scontrol: Unable to contact slurm controller" in result.output
    assert not (tmp_path / "out").exists()
    site = tmp_path / "site.toml"
    site.write_text(
        '[site]\nname = "x"\n[circuit.grid]\nrating_watts = 9_000  # TODO: measure\nlimit_kind = "safety"\n'
    )
    result = run("check", "--config", site, "--slurm-conf", mute, "--no-devices", "--json")
    findings = json.loads(result.stdout)["findings"]
    assert result.exit_code == 2
    assert [finding["where"] for finding in findings if finding["severity"] == "error"][-1] == "slurmctld"
    assert any(
        "circuit.grid.rating_watts is still a guess (measure)" in finding["what"] for finding in findings
    )


def test_uninstall_without_slurm_goes_by_its_record(mute: Path, tmp_path: Path) -> None:
    result = run("uninstall", "--config-directory", tmp_path, "--slurm-conf", mute, "--json")
    said = json.loads(result.stdout)
    assert result.exit_code == 1
    assert said["to_do"] == []
    assert said["findings"][0]["where"] == "slurmctld"
    (tmp_path / "installed.json").write_text("{ no record")
    result = run("uninstall", "--apply", "--config-directory", tmp_path, "--slurm-conf", mute)
    assert result.exit_code == 2
    assert "installed.json: cannot be read" in result.output


def test_apply_wants_a_folder_of_ours(tmp_path: Path) -> None:
    result = run("init", "--apply", "--dir", tmp_path / "none")
    assert result.exit_code == 2
    assert "holds no proposal; write one first" in result.output
    assert run("init", "--role", "node").exit_code == 2
    assert run("uninstall", "--apply", "--verify").exit_code == 2
