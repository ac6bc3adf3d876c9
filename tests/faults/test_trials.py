"""A seeded few hundred fault trials, and that they would notice."""

import subprocess
import sys
from pathlib import Path

import pytest

from containers.faults import model
from containers.faults.outcome import Outcome
from containers.faults.plan import Book, Planned, planned, table

ROOT = Path(__file__).parents[2]


def trials(*words: str, seconds: float = 110.0) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "containers.faults", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def test_nothing_leaks() -> None:
    done = trials("--model=350", "--real=30", "--pcs=12", "--ledger=4", "--seed=20000")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "| all |  | 396 | 0 | 0 |" in done.stdout


@pytest.mark.parametrize("mutation", ["no-read-back", "no-save-before-write", "forget-expiry"])
def test_a_spoiled_product_is_noticed(mutation: str) -> None:
    done = trials("--model=300", "--real=0", "--pcs=0", "--ledger=0", f"--mutation={mutation}")
    assert done.returncode == 1
    assert "again: python -m containers.faults" in done.stdout


def test_the_same_seed_is_the_same_trial() -> None:
    kind = "everything at once"
    assert model.run_trial(kind, 7) == model.run_trial(kind, 7)
    assert model.run_trial(kind, 7).log != model.run_trial(kind, 8).log


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path) -> None:
    file = tmp_path / "book"
    first, second = planned({"model": 2, "real": 0, "pcs": 0, "ledger": 0}, 5)
    outcome = Outcome(kind=first.kind, seed=5, problems=("leak",), safe_seconds=1.0, log=("line",))
    Book(file).add(first, outcome)
    with file.open("a") as stream:
        stream.write('{"trial": {"family": "mod')
    book = Book(file)
    assert book.outcomes == {first: outcome}
    book.add(second, outcome)
    assert set(Book(file).outcomes) == {first, second}
    assert table(book.outcomes.items())[-1] == "| all |  | 2 | 2 | 0 | 1.0 s |"


def test_trials_are_spread_over_all_kinds() -> None:
    found = planned({"model": 28, "real": 30, "pcs": 6, "ledger": 1}, 0)
    assert len(set(found)) == 65
    assert {trial.kind for trial in found if trial.family == "model"} == set(model.KINDS)
    assert Planned(family="ledger", kind="ledger: SIGKILL while writing", seed=0) in found
