"""From a Slurm that has hooks of its own to slurm-power and back: init, apply, check, a job, uninstall."""

import json
import struct
from collections.abc import Callable, Iterator

import pytest

from containers.cluster.layout import CHECKOUT, LabError, Options
from containers.cluster.lifecycle import up
from tests.cluster.lab import await_job, output
from tests.install.bare import Bare

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]
# What the README of the proposal tells an administrator to do afterwards; it is checked to say so.
UNITS = ("systemctl enable --now powerctld", "systemctl enable --now powerd@c1 powerd@c2")


@pytest.fixture(scope="module")
def bare() -> Iterator[Bare]:
    started = up(Options(nodes=2, power=True))
    yield Bare(started.lab, own_hooks=True)
    started.down()


def submit(bare: Bare, command: str, *options: str) -> str:
    words = [
        command,
        "--parsable",
        "--output=%j.out",
        "--gres=gpu:1",
        *options,
        "--wrap=echo $SLURM_POWER_FLEX",
    ]
    return bare.lab.run(words, user="alice", environment={"PYTHONPATH": str(CHECKOUT)}).stdout.strip()


def nobody_drained(bare: Bare) -> None:
    states = bare.lab.run(["sinfo", "-h", "-N", "-o", "%T %E"]).stdout.split("\n")
    assert all("drain" not in state for state in states)


def faults_are_told(bare: Bare, words: tuple[str, ...]) -> None:
    """Break one thing after the other, each as it breaks on a site, and look whether check says so."""
    hooks = bare.etc / "slurm-power"
    prolog, epilog, plugin = hooks / "prolog", hooks / "epilog", hooks / "slurm_power.so"
    own, plugstack = bare.run / "own" / "prolog", bare.etc / "plugstack.conf"
    kept = {
        file: (file.read_bytes(), file.stat().st_mode) for file in (prolog, epilog, plugin, own, plugstack)
    }
    # The release as the header of Slurm writes it, without the byte of its last number.
    major, minor = bare.lab.layout.slurm_version
    release, another = (struct.pack("<I", year << 16 | minor << 8)[1:] for year in (major, major + 1))
    cases: list[tuple[Callable[[], object], int, str]] = [
        (lambda: prolog.chmod(0o644), 2, f"{prolog}: Prolog is not executable"),
        (lambda: own.chmod(0o644), 2, f"{own}: Prolog is not executable"),
        (
            lambda: plugin.write_bytes(kept[plugin][0].replace(release, another)),
            2,
            "was built for",
        ),
        (lambda: bare.lab.stop("powerd.c2"), 1, "node c2: no powerd is connected"),
    ]
    for spoil, status, line in cases:
        spoil()
        code, said = 0, ""

        def told(line: str = line) -> bool:
            nonlocal code, said
            code, said = bare.slurm_power(*words, "--no-devices", check=False)
            return line in said

        try:
            bare.lab.wait_until(told, line, seconds=15)
        except LabError as error:
            raise AssertionError(f"{line!r} is not in:\n{said}") from error
        assert code >= status
        for file, (content, mode) in kept.items():
            file.write_bytes(content)
            file.chmod(mode & 0o777)
        for name in bare.lab.daemon_names:
            if not bare.lab.is_running(name):
                bare.lab.start(name)
    bare.lab.wait_until(lambda: bare.slurm_power(*words, check=False)[0] == 0, "a clean check", seconds=20)


def test_the_whole_way(bare: Bare) -> None:
    nodes = len(bare.lab.layout.nodes)

    # Looking changes nothing, and looking twice says the same.
    _, said = bare.init()
    assert "Nothing else was changed" in said
    assert bare.files() == bare.before
    proposal = {file: file.read_bytes() for file in bare.folder.rglob("*") if file.is_file()}
    bare.init()
    assert {file: file.read_bytes() for file in bare.folder.rglob("*") if file.is_file()} == proposal
    steps = (bare.folder / "README.md").read_text()
    assert all(unit in steps for unit in UNITS)
    # Nothing that would count energy by a plugin of Slurm's is ever proposed.
    assert b"AcctGather" not in (bare.folder / "changes.diff").read_bytes()

    # Before anything is in place, check says what is missing.
    status, said = bare.slurm_power(
        "check", "--config", f"{bare.folder}/root{bare.etc}/site.toml", "--no-devices", check=False
    )
    assert status == 2
    assert "circuit.grid.rating_watts is still a guess" in said
    assert "does not call slurm-power's prolog" in said

    bare.fill_site_toml()
    bare.slurm_power("init", "--apply", "--dir", str(bare.folder))
    _, said = bare.slurm_power("init", "--apply", "--dir", str(bare.folder))
    assert "everything is in place already" in said
    bare.start_daemons()
    bare.restart_slurm()
    words = ("check", "--config", f"{bare.etc}/site.toml")
    last = (0, "")

    def clean() -> bool:
        nonlocal last
        last = bare.slurm_power(*words, check=False)
        return last[0] == 0

    try:
        bare.lab.wait_until(clean, "a clean check", seconds=20)
    except Exception as error:
        raise AssertionError(last[1]) from error

    faults_are_told(bare, words)

    # The job's words arrive, the site's own hooks and script still have their say.
    job = submit(bare, "psbatch", "--flex=flex2")
    fields = await_job(bare.lab, job)
    assert output(bare.lab, job).strip() == "flex2"
    assert json.loads(fields["AdminComment"])["power"]["flex"] == "flex2"
    bare.lab.wait_until(lambda: bare.lab.idle_nodes() == nodes, "idle nodes", seconds=20)
    known = bare.slurm_power("why", job)[1]
    assert f"Job {job} (" in known
    assert "flex2" in known
    assert job in bare.seen("prolog")
    assert job in bare.seen("epilog")
    comment = bare.lab.run(["squeue", "-h", "-t", "all", "-j", job, "-O", "comment:40"]).stdout.strip()
    assert comment == "seen by the site"
    refused = bare.lab.run(["sbatch", "--job-name=refused", "--wrap=true"], user="alice", check=False)
    assert refused.returncode != 0
    assert "the site refuses this name" in refused.stderr

    # Off again, in the order that uninstall itself tells.
    status, said = bare.slurm_power("uninstall", "--config-directory", str(bare.etc), check=False)
    assert status == 1
    assert bare.lab.layout.slurm_conf.read_bytes() != bare.before["slurm.conf"][1]
    status, said = bare.slurm_power(
        "uninstall", "--apply", "--purge", "--config-directory", str(bare.etc), check=False
    )
    assert "the control is off, every cap and hold is given back" in said
    assert "still in use; run this again" in said
    bare.stop_daemons()
    bare.restart_slurm()
    bare.slurm_power("uninstall", "--apply", "--purge", "--config-directory", str(bare.etc))
    _, said = bare.slurm_power("uninstall", "--verify", "--config-directory", str(bare.etc))
    assert "nothing of slurm-power is left" in said
    (bare.etc / "ca.pem").unlink()
    after = {name: state for name, state in bare.files().items() if not name.startswith("tls/")}
    assert after == bare.before

    job = submit(bare, "sbatch")
    await_job(bare.lab, job)
    assert output(bare.lab, job).strip() == ""
    assert job in bare.seen("prolog")
    nobody_drained(bare)
