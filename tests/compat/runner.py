"""Run a group of cases through sbatch and psbatch, then look once at everything Slurm made of them."""

import os
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.compat.case import Case
from tests.compat.record import Component, Submission, parse, submitted_number
from tests.compat.slurm import Outcome, Slurm, run

# One for each core of the smallest machine this runs on.
AT_A_TIME = 2
_RECORD_START = re.compile(r"^(?=JobId=\d+ )", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pair:
    """Both submissions of one case."""

    sbatch: Submission
    psbatch: Submission


def run_group(slurm: Slurm, name: str, cases: Sequence[Case]) -> dict[str, Pair]:
    """Run each case through both commands; returns their pairs by the case's name."""
    return run_pairs(slurm, name, [(case, case) for case in cases])


def run_pairs(slurm: Slurm, name: str, cases: Sequence[tuple[Case, Case]]) -> dict[str, Pair]:
    """Run the first of each two through sbatch, then the second, of the same name, through psbatch.

    Each two have a folder of their own, and follow each other at once; two such pairs run at a time. All jobs
    are cancelled at the end.
    """
    base = slurm.home / name
    base.mkdir()
    base.chmod(0o777)
    anchor = _submit_anchor(slurm, base)
    folders = {case.name: _make_folder(base / _letters(index), case) for index, (case, _) in enumerate(cases)}

    def both(two: tuple[Case, Case]) -> tuple[Outcome, Outcome]:
        folder = folders[two[0].name]
        return (
            run_case(slurm, two[0], "sbatch", folder, anchor),
            run_case(slurm, two[1], "psbatch", folder, anchor),
        )

    with ThreadPoolExecutor(AT_A_TIME) as pool:
        outcomes = dict(zip(folders, pool.map(both, cases), strict=True))
    jobs = read_jobs(slurm)
    pairs = {name: _pair(outcomes[name], jobs, os.fsdecode(folder)) for name, folder in folders.items()}
    run(slurm, [b"scancel", b"--user=alice"])
    run(slurm, [b"scancel", b"--user=root"])
    return pairs


def run_case(slurm: Slurm, case: Case, program: str, folder: bytes, anchor: int) -> Outcome:
    """Run one case through one command."""
    return run(
        slurm,
        case.command(program, anchor),
        user=case.user,
        directory=folder,
        environment=environment_of(case),
        stdin=case.stdin,
    )


def environment_of(case: Case) -> dict[bytes, bytes | None]:
    """Return what a case adds to the environment."""
    return {name.encode(): _bytes(value) for name, value in case.environment.items()}


def _bytes(value: str | bytes | None) -> bytes | None:
    return value.encode() if isinstance(value, str) else value


def _submit_anchor(slurm: Slurm, base: Path) -> int:
    words = [b"sbatch", b"--parsable", b"--hold", b"--wrap=true"]
    done = run(slurm, words, user="alice", directory=os.fsencode(base))
    number = submitted_number(done.stdout)
    if number is None:
        raise RuntimeError(f"no anchor job: {done.stderr!r}")
    return number


def _letters(number: int) -> str:
    """Name a folder without a digit, which could be taken for a job's number."""
    return "".join("abcdefghij"[int(digit)] for digit in str(number))


def _make_folder(parent: Path, case: Case) -> bytes:
    """Make the folder the case runs in, open to everybody so that any user can work there."""
    folder = os.path.join(os.fsencode(parent), _bytes(case.folder) or b"")  # noqa: PTH118 - bytes
    os.makedirs(folder)  # noqa: PTH103 - bytes
    os.chmod(folder, 0o777)  # noqa: PTH101 - bytes
    for name, content in case.files.items():
        path = Path(os.fsdecode(folder)) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(case.modes.get(name, 0o644))
    return folder


def read_jobs(slurm: Slurm) -> dict[int, Component]:
    """Return every job that Slurm knows, by number, with script and environment as slurmctld keeps them."""
    done = run(slurm, [b"scontrol", b"--oneliner", b"show", b"job"])
    found = {}
    for line in _RECORD_START.split(done.stdout.decode(errors="surrogateescape")):
        if not line.startswith("JobId="):
            continue
        fields = parse(line.removesuffix("\n").rstrip(" "))
        number = int(fields["JobId"])
        # An array's tasks that have been split off keep the array's files.
        holder = slurm.state / f"hash.{number % 10}" / f"job.{number}"
        texts = [
            file.read_bytes() if (file := holder / name).exists() else b""
            for name in ("script", "environment")
        ]
        found[number] = Component(number, fields, *texts)
    return found


def _pair(outcomes: tuple[Outcome, Outcome], jobs: dict[int, Component], folder: str) -> Pair:
    """Give each command the job it made: by the number it printed, else by the folder it ran in."""
    here = [number for number, job in jobs.items() if _leads(job) and job.fields.get("WorkDir") == folder]
    numbers = [submitted_number(outcome.stdout) for outcome in outcomes]
    unclaimed = [number for number in sorted(here) if number not in numbers]
    # sbatch went first; where neither printed a number, the first half of what came of it is sbatch's.
    half = len(unclaimed) // 2 if numbers == [None, None] else 0 if numbers[0] else len(unclaimed)
    made = []
    for number, rest in zip(numbers, (unclaimed[:half], unclaimed[half:]), strict=True):
        heads = rest if number is None else [number, *rest]
        made.append([component for head in heads for component in _components(jobs, head)])
    return Pair(*(Submission(outcome, tuple(own)) for outcome, own in zip(outcomes, made, strict=True)))


def _leads(job: Component) -> bool:
    """Whether it stands for the whole job: no later component of a heterogeneous one, no task of an array."""
    fields = job.fields
    return (
        fields.get("HetJobOffset", "0") == "0"
        and fields.get("ArrayJobId", fields["JobId"]) == fields["JobId"]
    )


def _components(jobs: dict[int, Component], number: int | None) -> list[Component]:
    if number not in jobs:
        return []
    heads = [job for job in jobs.values() if job.fields.get("HetJobId") == str(number)]
    return sorted(heads, key=lambda job: job.number) or [jobs[number]]
