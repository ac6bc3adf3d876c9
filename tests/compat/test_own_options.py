"""With our own options the job differs from a plain one in our fields only; and where psbatch must differ."""

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.compat.cases_own import FINISH_BY, OWN_CASES, OwnCase
from tests.compat.record import OUR_VARIABLES, differences, submitted_number
from tests.compat.runner import Pair, run_pairs
from tests.compat.slurm import Slurm, run

OWN_GROUP = "own"


@pytest.fixture(scope="module")
def own(slurm: Slurm) -> Mapping[str, Pair]:
    return run_pairs(slurm, OWN_GROUP, [(case.plain, case.ours) for case in OWN_CASES])


@pytest.mark.parametrize("case", OWN_CASES, ids=[case.plain.name for case in OWN_CASES])
def test_only_our_fields_differ(own: Mapping[str, Pair], case: OwnCase) -> None:
    pair = own[case.plain.name]
    found = differences(pair.sbatch, pair.psbatch, our_fields=not case.same, our_variables=True)
    assert not found, "\n".join(["", *found])


@pytest.mark.parametrize(
    ("name", "workload", "flex"),
    [
        ("typed", "training", "flex2"),
        ("typed twice", None, "flex2"),
        ("with an array", "training", "flex2"),
        ("on #PSBATCH lines", "training", "flex2"),
        ("on #PSBATCH lines and typed", "training", "flex0"),
        ("by variables", "generation", "flex2"),
        ("by the user's file", "training", "flex3"),
        ("nothing exported", "training", "flex2"),
    ],
)
def test_our_fields_are_set(own: Mapping[str, Pair], name: str, workload: str | None, flex: str) -> None:
    pair = own[name]
    power = json.loads(pair.psbatch.components[0].fields["AdminComment"])["power"]
    assert (power.get("workload"), power["flex"]) == (workload, flex)
    plain = json.loads(pair.sbatch.components[0].fields.get("AdminComment", "{}"))
    assert not {"workload", "flex"} & plain.get("power", {}).keys()
    assert not OUR_VARIABLES.search(pair.sbatch.components[0].environment)


def test_all_our_fields_are_set(own: Mapping[str, Pair]) -> None:
    for name in ("all of ours", "all of ours, separate"):
        power = json.loads(own[name].psbatch.components[0].fields["AdminComment"])["power"]
        assert (power["workload"], power["flex"]) == ("training", "flex2")
        assert (power["max_hold_seconds"], power["cap_watts"]) == (1800, 400)
        assert power["finish_by"] == FINISH_BY


def test_what_is_said_of_tiers_is_set(own: Mapping[str, Pair]) -> None:
    for submission in (
        own["with a tier"].psbatch,
        own["the same, with a tier"].sbatch,
        own["the same, with a tier"].psbatch,
    ):
        power = json.loads(submission.components[0].fields["AdminComment"])["power"]
        assert (power["tier"], power["tiers_ok"], power["min_quality"]) == (
            *("digits/full", ["int8", "small"]),
            0.95,
        )


def test_sbatch_runs_a_script_with_our_lines(own: Mapping[str, Pair]) -> None:
    pair = own["on #PSBATCH lines"]
    assert pair.sbatch.outcome.status == 0
    assert pair.sbatch.outcome.stderr == b""
    assert b"#PSBATCH --workload=training" in pair.sbatch.components[0].script
    assert pair.sbatch.components[0].fields["Nice"] == "3"


def test_a_wrong_word_of_ours_submits_nothing(slurm: Slurm) -> None:
    before = run(slurm, [b"squeue", b"-ho%i"]).stdout
    words = [b"psbatch", b"--hold", b"--flex=much", b"--workload=sorting", b"--wrap=true"]
    done = run(slurm, words, user="alice", directory=bytes(slurm.home))
    assert (done.status, done.stdout) == (2, b"")
    assert b"--flex" in done.stderr
    assert b"--workload" in done.stderr
    assert run(slurm, [b"squeue", b"-ho%i"]).stdout == before


def test_sbatch_is_not_there(slurm: Slurm, tmp_path: Path) -> None:
    """As a shell says it of a command it cannot find; psbatch alone can be run without sbatch on PATH."""
    line = b'program=$(command -v psbatch); PATH=/nowhere "$program" --wrap=true'
    done = run(slurm, [b"sh", b"-c", line], user="alice", directory=bytes(slurm.home))
    assert done.status == 127
    assert done.stdout == b""
    assert b"sbatch: command not found" in done.stderr


@pytest.mark.parametrize(
    "conf", ["", "controller=127.0.0.1:9\n", "controller=no-such-host.invalid:1\n", "nonsense"]
)
def test_no_controller_costs_one_line(slurm: Slurm, conf: str) -> None:
    """The submission goes through and says so in one line; that line is all the record compares without."""
    file = slurm.home / "no-controller.conf"
    file.write_text(conf)
    environment = {b"SLURM_POWER_CONF": bytes(file)}
    words = [b"psbatch", b"--hold", b"--wrap=true"]
    done = run(slurm, words, user="alice", directory=bytes(slurm.home), environment=environment)
    assert done.status == 0
    assert submitted_number(done.stdout) is not None
    assert done.stderr.startswith(b"psbatch: no power controller")
    assert done.stderr.endswith(b": submitting plainly\n")
    assert done.stderr.count(b"\n") == 1
