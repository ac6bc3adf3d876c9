"""``python -m containers.bench.slurm_faults``: break each daemon at each moment of a job; what becomes of it?

Controller, node daemons, MUNGE and slurmctld, killed and stopped, each while a job is submitted, starts,
runs and ends, and while it is requeued, suspended and so on. No submission may be lost, no job may fail or
wait for ever, no node may be drained. What stops Slurm itself is tried once more in a lab without
slurm-power, and slurmctld is killed unprepared many times over in both: it loses jobs by itself at times.
Exit status 1 when something was lost, failed, drained or stuck that was not so without us.
"""

import argparse
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from containers.bench.fault_ground import FAULTS, NO_FAULT, Fault, Ground
from containers.bench.fault_moments import MOMENTS, Outcome, held, killed_in_the_middle, trial
from containers.cluster.layout import LabError, Options
from containers.cluster.lifecycle import up

KILLS = 20
MOST_AFTER_SECONDS = 3.0
_WITHOUT_US = "without slurm-power"
Table = Mapping[tuple[str, str], Outcome]


@dataclass(slots=True)
class Kills:
    """What slurmctld, killed unprepared, did to jobs: how often each outcome was seen."""

    trials: int = 0
    seen: dict[str, int] = field(default_factory=dict)
    bad: int = 0

    def take(self, outcome: Outcome) -> None:
        """Count one trial."""
        self.trials += 1
        self.bad += not outcome.well
        self.seen[outcome.text] = self.seen.get(outcome.text, 0) + 1


def main() -> int:
    """Run the trials and print tables; returns 0, 1 if we did harm, 2 without a lab."""
    parser = argparse.ArgumentParser(prog="python -m containers.bench.slurm_faults", description=__doc__)
    names = [fault.name for fault in FAULTS]
    parser.add_argument("--fault", action="append", choices=names, help="these faults alone")
    parser.add_argument("--moment", action="append", choices=list(MOMENTS), help="these moments alone")
    parser.add_argument(
        "--kills", type=int, default=KILLS, help=f"unprepared kills of slurmctld (default {KILLS})"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the moments of those kills (default 1)")
    arguments = parser.parse_args()
    if arguments.kills < 0:
        parser.error(f"--kills {arguments.kills}: must be 0 or more")
    faults = [fault for fault in FAULTS if fault.name in (arguments.fault or names)]
    moments = arguments.moment or list(MOMENTS)
    try:
        with_us, kills = _in_a_lab(faults, moments, arguments.kills, arguments.seed, ours=True)
        stopping = [fault for fault in faults if fault.stops_slurm]
        without, other_kills = _in_a_lab(stopping, moments, arguments.kills, arguments.seed, ours=False)
    except LabError as error:
        print(f"slurm_faults: {error}", file=sys.stderr)
        return error.exit_status
    print(_table(faults, moments, with_us))
    if without:
        print(f"\nWhat stops Slurm itself, {_WITHOUT_US}:\n")
        print(_table(stopping, [name for name in moments if MOMENTS[name] is not held], without))
    if kills.trials:
        print(f"\nslurmctld killed unprepared, up to {MOST_AFTER_SECONDS:g} s after a submission:\n")
        print(_kills_table({"with slurm-power": kills, _WITHOUT_US: other_kills}))
    return 1 if _harm(with_us, without, kills, other_kills) else 0


def _in_a_lab(
    faults: Sequence[Fault], moments: Sequence[str], kills: int, seed: int, *, ours: bool
) -> tuple[Table, Kills]:
    """Run all trials in a lab of their own; raises LabError when it cannot be built or put in order."""
    found: dict[tuple[str, str], Outcome] = {}
    counted = Kills()
    if not faults and not kills:
        return found, counted
    started = up(Options(power=ours))
    try:
        ground = Ground.prepare(started.lab, ours=ours)
        for fault in faults:
            for name in moments:
                if ours or MOMENTS[name] is not held:
                    found[fault.name, name] = _told(ground, name, fault)
        moment = random.Random(seed)  # noqa: S311 - moments, not secrets
        for _ in range(kills):
            kill = partial(killed_in_the_middle, after_seconds=moment.uniform(0.0, MOST_AFTER_SECONDS))
            outcome = trial(ground, kill, NO_FAULT)
            counted.take(outcome)
            _say(ground, "slurmctld killed unprepared", outcome)
    finally:
        started.discard()
    return found, counted


def _told(ground: Ground, name: str, fault: Fault) -> Outcome:
    began = time.monotonic()
    outcome = trial(ground, MOMENTS[name], fault)
    _say(ground, f"{fault.name}, {name} ({time.monotonic() - began:.1f} s)", outcome)
    return outcome


def _say(ground: Ground, what: str, outcome: Outcome) -> None:
    where = "" if ground.ours else f" {_WITHOUT_US}"
    print(f"  {what}{where}: {outcome.text}", file=sys.stderr, flush=True)


def _harm(with_us: Table, without: Table, kills: Kills, other_kills: Kills) -> bool:
    """Whether anything went wrong that does not go wrong without us."""
    wrong = [
        key
        for key, outcome in with_us.items()
        if not outcome.well and (key not in without or without[key].well)
    ]
    # Both lose by chance: one in ten more than without us is taken for chance, twice as many is not.
    return bool(wrong) or kills.bad > 2 * other_kills.bad + kills.trials // 10


def _table(faults: Sequence[Fault], moments: Sequence[str], table: Table) -> str:
    """One row for each moment, so that the page is not wider than it is long."""
    lines = ["| | " + " | ".join(fault.name for fault in faults) + " |", "|---" * (len(faults) + 1) + "|"]
    for name in moments:
        cells = [table[fault.name, name].text if (fault.name, name) in table else "-" for fault in faults]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _kills_table(kills: Mapping[str, Kills]) -> str:
    lines = ["| | trials | what became of the job |", "|---|---|---|"]
    for name, counted in kills.items():
        seen = ", ".join(f"{text}: {count}" for text, count in sorted(counted.seen.items()))
        lines.append(f"| {name} | {counted.trials} | {seen} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
