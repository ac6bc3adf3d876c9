"""Jobs with their energy for ``slurm-power jobs``: Slurm's accounting says which, powerctld what they used.

Where powerctld cannot be asked, as on a login node, the receipts in Slurm's accounting stand in; where there
is no accounting, powerctld's own records list the jobs.
"""

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from slurm_power import clock
from slurm_power.cli.commands.connection import Refusal, ask
from slurm_power.cli.commands.jobs.job_times import moment, states_problem, wanted_state
from slurm_power.cli.commands.quantities import plain_text
from slurm_power.model.receipt import Receipt, receipt_from_json
from slurm_power.slurm.receipt_text import receipt_in

_SACCT_SECONDS = 30.0
_AT_ONCE = 200
_FIELDS = (
    *("JobIDRaw", "JobID", "User", "Account", "State", "Submit", "Start", "End", "ElapsedRaw"),
    *("NodeList", "AllocTRES", "JobName", "AdminComment"),
)
_ENDED_STATES = "BF,CA,CD,DL,F,NF,OOM,PR,TO"
# What sacct says of a bad word; whatever else goes wrong there is no fault of who asks.
_USER_ERROR = re.compile(
    r"invalid (time|user|job|account|state)|unrecognized|unrecogni[sz]ed job state|invalid option"
    r"|bad job|start time is after|must be",
    re.IGNORECASE,
)


class AskedWrongly(click.ClickException):
    """The question makes no sense; nothing was asked. All problems are in the text."""

    exit_code = 2


class NoAccounting(Exception):  # noqa: N818  # an answer more than an error
    """Slurm's accounting cannot be asked; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which jobs; times as they were typed. Empty: one's own, since midnight."""

    jobs: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    accounts: tuple[str, ...] = ()
    states: tuple[str, ...] = ()
    start: str | None = None
    end: str | None = None
    all_users: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One job. ``raw_id`` is its number, ``job_id`` as Slurm's users know it; times are local."""

    raw_id: str
    job_id: str
    name: str = ""
    user: str = ""
    account: str = ""
    state: str = ""
    submit: datetime | None = None
    start: datetime | None = None
    end: datetime | None = None
    elapsed_seconds: float | None = None
    gpu_count: int | None = None
    nodes: str = ""
    workload: str = ""
    flex: str = ""
    tier: str = ""
    receipt: Receipt | None = None
    final: bool = False
    source: str = ""
    currency: str = ""


def read_rows(selection: Selection, socket_path: Path | None) -> tuple[list[Row], list[str]]:
    """The jobs of a selection, oldest first, and what is to be said about them.

    Raises AskedWrongly, or click.ClickException where neither accounting nor powerctld answers.
    """
    try:
        rows = _accounted(selection)
    except NoAccounting as missing:
        return _told(selection, socket_path, str(missing))
    notes = []
    told: dict[str, Any] = {}
    try:
        for first in range(0, len(rows), _AT_ONCE):
            asked = [row.raw_id for row in rows[first : first + _AT_ONCE]]
            answer = ask({"op": "jobs", "job_ids": asked}, socket_path)
            told |= {row["job_id"]: row | {"currency": answer.get("currency")} for row in answer["jobs"]}
    except Refusal as refusal:
        notes.append(f"powerctld does not tell: {refusal.message}")
    except click.ClickException:
        notes.append("powerctld cannot be asked from here: receipts are those in Slurm's accounting")
    return [_with_record(row, told[row.raw_id]) if row.raw_id in told else row for row in rows], notes


# --- Slurm's accounting ---------------------------------------------------------------------------------


def _accounted(selection: Selection) -> list[Row]:
    words = ["--allocations", "--noheader", "--parsable2", f"--format={','.join(_FIELDS)}"]
    states = [_ENDED_STATES if state.upper() == "ENDED" else state for state in selection.states]
    for option, values in (
        ("--jobs", selection.jobs),
        ("--user", selection.users),
        ("--accounts", selection.accounts),
        ("--state", states),
    ):
        if values:
            words.append(f"{option}={','.join(values)}")
    words += [f"--starttime={selection.start}"] if selection.start else []
    # Of states without an end time sacct shows who is in one at the start of the time asked for.
    end = selection.end or ("now" if states else None)
    words += [f"--endtime={end}"] if end else []
    words += ["--allusers"] if selection.all_users else []
    lines = _sacct(words).splitlines()
    return [row for line in lines if (row := _accounted_row(line)) is not None]


def _sacct(words: Sequence[str]) -> str:
    environment = {**os.environ, "SLURM_TIME_FORMAT": "standard", "SLURM_BITSTR_LEN": "0"}
    try:
        done = subprocess.run(
            ["sacct", *words], capture_output=True, timeout=_SACCT_SECONDS, check=False, env=environment
        )
    except FileNotFoundError:
        raise NoAccounting("there is no sacct here") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NoAccounting(f"sacct does not answer: {type(error).__name__}") from None
    if done.returncode:
        said = " ".join(done.stderr.decode(errors="replace").split()) or f"status {done.returncode}"
        if _USER_ERROR.search(said):
            raise AskedWrongly(plain_text(said))
        raise NoAccounting(plain_text(said))
    return done.stdout.decode(errors="replace")


def _accounted_row(line: str) -> Row | None:
    *parts, name_and_comment = line.split("|", len(_FIELDS) - 2)
    if len(parts) != len(_FIELDS) - 2:
        return None
    told = dict(zip(_FIELDS[:-2], parts, strict=True))
    # Both may have bars in them; a comment of ours, which alone matters, begins with a brace.
    name, brace, comment = name_and_comment.partition("|{")
    if brace:
        comment = f"{{{comment}"
    else:
        name, _, comment = name_and_comment.rpartition("|")
    receipt = receipt_from_json(receipt_in(comment))
    gpus = re.search(r"(?:^|,)gres/gpu=(\d+)", told["AllocTRES"])
    return Row(
        raw_id=told["JobIDRaw"],
        job_id=told["JobID"],
        name=name,
        user=told["User"],
        account=told["Account"],
        state=told["State"].partition(" ")[0],
        submit=_local(told["Submit"]),
        start=_local(told["Start"]),
        end=_local(told["End"]),
        elapsed_seconds=float(told["ElapsedRaw"]) if told["ElapsedRaw"].isdigit() else None,
        gpu_count=int(gpus[1]) if gpus else (0 if told["AllocTRES"] else None),
        nodes="" if told["NodeList"] == "None assigned" else told["NodeList"],
        receipt=receipt,
        final=receipt is not None,
        source="Slurm's accounting" if receipt is not None else "",
    )


# --- powerctld ------------------------------------------------------------------------------------------


def _told(selection: Selection, socket_path: Path | None, missing: str) -> tuple[list[Row], list[str]]:
    """Jobs by powerctld's records alone."""
    now = clock.now().astimezone()  # the user's own hours
    problems = [problem for state in selection.states if (problem := states_problem(state))]
    start = end = None
    for option, text in (("--starttime", selection.start), ("--endtime", selection.end)):
        try:
            found = None if text is None else moment(text, now)
        except ValueError as error:
            problems.append(f"{option}: {error}")
            continue
        start, end = (found, end) if option == "--starttime" else (start, found)
    problems += [
        f"--jobs: {job!r} is no job id; without Slurm's accounting ({missing}) arrays are not known by name"
        for job in selection.jobs
        if not job.isdigit()
    ]
    if problems:
        raise AskedWrongly("; ".join(problems))
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    since = start or midnight
    try:
        if selection.jobs:
            answer = ask({"op": "jobs", "job_ids": list(selection.jobs[:_AT_ONCE])}, socket_path)
            records = [row | {"currency": answer.get("currency")} for row in answer["jobs"]]
        else:
            records = list(_last_records(max(0.0, (now - since).total_seconds()), socket_path))
    except Refusal:
        raise
    except click.ClickException as error:
        raise click.ClickException(f"{error.message}; and {missing}") from None
    rows = [_with_record(Row(raw_id=row["job_id"], job_id=row["job_id"]), row) for row in records]
    rows = [row for row in rows if _selected(row, selection, end)]
    note = f"without Slurm's accounting ({missing}): jobs as powerctld knows them"
    return sorted(rows, key=lambda row: int(row.raw_id)), [note]


def _last_records(since_seconds: float, socket_path: Path | None) -> Iterator[Mapping[str, Any]]:
    cursor: int | None = None
    seen: set[str] = set()
    while True:
        answer = ask({"op": "jobs", "since_seconds": since_seconds, "cursor": cursor}, socket_path)
        for row in answer["jobs"]:
            if row["job_id"] not in seen:
                seen.add(row["job_id"])
                yield row | {"currency": answer.get("currency")}
        cursor = answer["cursor"]
        if cursor is None:
            return


def _selected(row: Row, selection: Selection, end: datetime | None) -> bool:
    return (
        (not selection.users or row.user in selection.users)
        and (not selection.accounts or row.account in selection.accounts)
        and (not selection.states or any(wanted_state(state) == row.state for state in selection.states))
        and (end is None or row.start is None or row.start <= end)
    )


def _with_record(row: Row, record: Mapping[str, Any]) -> Row:
    """A row with what powerctld knows; what Slurm's accounting has said of the job itself stays."""
    start, end = (row.start or _local(record.get("started"))), (row.end or _local(record.get("ended")))
    receipt = receipt_from_json(record.get("receipt"))
    elapsed = row.elapsed_seconds
    if elapsed is None and start is not None:
        until = end or clock.now().astimezone()
        elapsed = max(0.0, (until - start).total_seconds())
    return replace(
        row,
        name=row.name or str(record.get("name") or ""),
        user=row.user or str(record.get("user") or ""),
        account=row.account or str(record.get("account") or ""),
        state=row.state or str(record.get("state") or "").upper(),
        submit=row.submit or _local(record.get("submitted")),
        start=start,
        end=end,
        elapsed_seconds=elapsed,
        gpu_count=record.get("gpu_count") if row.gpu_count is None else row.gpu_count,
        nodes=row.nodes or ",".join(map(str, record.get("nodes") or ())),
        workload=str(record.get("workload") or ""),
        flex=str(record.get("flex") or ""),
        tier=str(record.get("tier") or (receipt.tier if receipt is not None else "") or row.tier),
        receipt=receipt or row.receipt,
        final=bool(record.get("final")) if receipt is not None else row.final,
        currency=str(record.get("currency") or ""),
        source="powerctld" if receipt is not None else row.source,
    )


def _local(text: object) -> datetime | None:
    """An ISO time as local time; None for Slurm's words for none."""
    try:
        return datetime.fromisoformat(str(text)).astimezone()
    except ValueError:
        return None
