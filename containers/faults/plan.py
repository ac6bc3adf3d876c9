"""Which trials there are, which have been run, and the table of what came of them."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from containers.faults import ledger, model, pcs, real
from containers.faults.outcome import Outcome

FAMILIES = ("model", "real", "pcs", "ledger")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Planned:
    """One trial: the same family, kind and seed are the same trial."""

    family: str
    kind: str
    seed: int


def planned(counts: dict[str, int], first_seed: int) -> list[Planned]:
    """As many trials of each family as asked for, spread evenly over its kinds."""
    kinds = {
        "model": tuple(model.KINDS),
        "real": tuple(real.KINDS),
        "pcs": tuple(pcs.KINDS),
        "ledger": (ledger.KIND,),
    }
    return [
        Planned(family=family, kind=kinds[family][index % len(kinds[family])], seed=first_seed + index)
        for family in FAMILIES
        for index in range(counts[family])
    ]


class Book:
    """The outcomes so far, one JSON object a line, so that a run that was cut off goes on where it was."""

    def __init__(self, file: Path | None) -> None:
        self._file = file
        if file is not None and file.exists() and not file.read_bytes().endswith(b"\n"):
            # The line that was being written when a run was cut off must not swallow the next.
            with file.open("a") as stream:
                stream.write("\n")
        self.outcomes: dict[Planned, Outcome] = dict(self._stored()) if file and file.exists() else {}

    def _stored(self) -> Iterator[tuple[Planned, Outcome]]:
        assert self._file is not None
        for line in self._file.read_text().splitlines():
            try:
                row = json.loads(line)
                outcome = {**row["outcome"], "problems": tuple(row["outcome"]["problems"])}
                yield Planned(**row["trial"]), Outcome(**{**outcome, "log": tuple(outcome["log"])})
            except (ValueError, KeyError, TypeError):
                continue  # the line that was being written when the run was cut off

    def add(self, trial: Planned, outcome: Outcome) -> None:
        """Note an outcome."""
        self.outcomes[trial] = outcome
        if self._file is not None:
            with self._file.open("a") as stream:
                stream.write(json.dumps({"trial": asdict(trial), "outcome": asdict(outcome)}) + "\n")


def table(outcomes: Iterable[tuple[Planned, Outcome]]) -> list[str]:
    """A Markdown table, one row a kind, and one for all."""
    rows: dict[tuple[str, str], list[Outcome]] = {}
    for trial, outcome in outcomes:
        rows.setdefault((trial.family, trial.kind), []).append(outcome)
    lines = ["| trials on | kind | trials | failed | lost ledger rows | longest to a safe state |"]
    lines.append("|---|---|---|---|---|---|")
    for (family, kind), of_kind in rows.items():
        lines.append(_row(family, kind, of_kind))
    everything = [outcome for of_kind in rows.values() for outcome in of_kind]
    lines.append(_row("all", "", everything))
    return lines


def _row(family: str, kind: str, outcomes: list[Outcome]) -> str:
    failed = sum(1 for outcome in outcomes if outcome.problems)
    lost = sum(outcome.lost_rows for outcome in outcomes)
    longest = max((outcome.safe_seconds for outcome in outcomes), default=0.0)
    return f"| {family} | {kind} | {len(outcomes)} | {failed} | {lost} | {longest:.1f} s |"
