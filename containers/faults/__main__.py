"""``python -m containers.faults``: run fault trials, tell what leaked, and exit with 1 if anything did."""

import argparse
import asyncio
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path

from containers.faults import ledger, model, pcs, real
from containers.faults.controller import Munged
from containers.faults.mutation import MUTATIONS, run_mutated
from containers.faults.outcome import Outcome
from containers.faults.plan import FAMILIES, Book, Planned, planned, table
from containers.plant.nvml_control import build_library

PCS_AT_ONCE = 40
SHOWN_LOG_LINES = 40


def parser() -> argparse.ArgumentParser:
    """The command line."""
    command = argparse.ArgumentParser(prog="python -m containers.faults", description=__doc__)
    for family, count in zip(FAMILIES, (9000, 1000, 120, 60), strict=True):
        command.add_argument(f"--{family}", type=int, default=count, metavar="N", help=f"default {count}")
    command.add_argument("--seed", type=int, default=0, help="seed of the first trial of each family")
    command.add_argument("--jobs", type=int, default=3 * (os.cpu_count() or 1), help="trials at once")
    command.add_argument("--resume", type=Path, metavar="FILE", help="go on with what this file has not yet")
    command.add_argument("--kind", help="only trials of this kind")
    command.add_argument("--mutation", choices=sorted(MUTATIONS), help="spoil a copy of the product first")
    return command


def main() -> int:
    """Run what is asked for; 0 if nothing leaked, 1 if something did."""
    arguments = parser().parse_args()
    if arguments.mutation:
        words = sys.argv[1:]
        at = next(index for index, word in enumerate(words) if word.startswith("--mutation"))
        rest = words[:at] + words[at + (1 if "=" in words[at] else 2) :]
        return run_mutated(arguments.mutation, rest)
    counts = {family: getattr(arguments, family) for family in FAMILIES}
    wanted = [trial for trial in planned(counts, arguments.seed) if arguments.kind in (None, trial.kind)]
    book = Book(arguments.resume)
    began = time.monotonic()
    try:
        _run([trial for trial in wanted if trial not in book.outcomes], book, arguments.jobs)
    except KeyboardInterrupt:
        print("\nstopped; --resume goes on from here", file=sys.stderr)
    done = [(trial, book.outcomes[trial]) for trial in wanted if trial in book.outcomes]
    print("\n".join(table(done)))
    print(f"\n{len(done)} of {len(wanted)} trials, {time.monotonic() - began:.0f} s in this run")
    failed = [(trial, outcome) for trial, outcome in done if outcome.problems]
    for trial, outcome in failed[:10]:
        _tell(trial, outcome)
    return 1 if failed or len(done) < len(wanted) else 0


def _tell(trial: Planned, outcome: Outcome) -> None:
    counts = " ".join(f"--{family}={int(family == trial.family)}" for family in FAMILIES)
    print(f"\n{trial.family}, {trial.kind}, seed {trial.seed}: {'; '.join(outcome.problems[:5])}")
    print(f"  again: python -m containers.faults {counts} --seed={trial.seed} --kind='{trial.kind}'")
    for line in outcome.log[-SHOWN_LOG_LINES:]:
        print(f"    {line}")


def _run(trials: list[Planned], book: Book, jobs: int) -> None:
    by_family = {family: [trial for trial in trials if trial.family == family] for family in FAMILIES}
    with _place() as place, ProcessPoolExecutor(jobs, initializer=_quiet) as pool:
        _batch(pool, by_family["model"], book, _model)
        _batch(pool, by_family["ledger"], book, _ledger)
        for first in range(0, len(by_family["pcs"]), PCS_AT_ONCE):
            asyncio.run(_batteries(by_family["pcs"][first : first + PCS_AT_ONCE], book))
        if by_family["real"]:
            library = build_library(place / "lib")
            real.build_wall_clock(place / "lib")
            munged = Munged(place / "munge")
            try:
                _batch(pool, by_family["real"], book, _real, place, library, str(munged.socket))
            finally:
                munged.close()


@contextmanager
def _place() -> Iterator[Path]:
    place = Path(tempfile.mkdtemp(prefix="sp-", dir="/tmp"))  # short, and every user may enter
    place.chmod(0o755)
    try:
        yield place
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _quiet() -> None:
    """In each worker: no words from the product's own log, and Ctrl-C is the parent's matter."""
    logging.disable(logging.CRITICAL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _model(trial: Planned) -> Outcome:
    return model.run_trial(trial.kind, trial.seed)


def _ledger(trial: Planned) -> Outcome:
    return ledger.run_trial(trial.seed)


def _real(trial: Planned, place: Path, library: Path, munge_socket: str) -> Outcome:
    return real.run_trial(trial.kind, trial.seed, place, library, munge_socket)


def _batch(
    pool: Executor, trials: list[Planned], book: Book, run: Callable[..., Outcome], *more: object
) -> None:
    futures = {pool.submit(run, trial, *more): trial for trial in trials}
    for count, future in enumerate(as_completed(futures), 1):
        book.add(futures[future], future.result())
        _progress(count, len(futures), futures[future].family)


async def _batteries(trials: list[Planned], book: Book) -> None:
    outcomes = await asyncio.gather(*(pcs.run_trial(trial.kind, trial.seed) for trial in trials))
    for trial, outcome in zip(trials, outcomes, strict=True):
        book.add(trial, outcome)
    _progress(len(trials), len(trials), "pcs")


def _progress(count: int, total: int, family: str) -> None:
    if sys.stderr.isatty() or count == total or count % 500 == 0:
        end = "\n" if count == total else "\r"
        print(f"{family}: {count} of {total}", end=end, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
