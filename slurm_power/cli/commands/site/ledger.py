"""``slurm-power ledger`` and ``slurm-power why``: what was decided, for whom, and why."""

import json
import sys
import time
from datetime import datetime
from pathlib import Path

import click
from rich.console import Console

from slurm_power.cli.commands.connection import (
    Answer,
    Refusal,
    ask,
    json_option,
    ledger_entries,
    print_json,
    printable,
    socket_option,
)
from slurm_power.cli.commands.quantities import (
    Duration,
    duration_text,
    energy_text,
    percent_text,
    plain_text,
    watts_text,
)
from slurm_power.cli.commands.site.why_words import three_sentences

# As wide as most kinds of entries; the few longer ones push their line to the right.
_KIND_WIDTH = 14
_FOLLOW_SECONDS = 600.0
_FOLLOW_LOOK_SECONDS = 1.0


@click.command()
@click.option("--job", "job_id", help="Only entries of this job.")
@click.option("--since", "since_seconds", type=Duration(), help="Only the last 10m, 2h, ...")
@click.option("--follow", is_flag=True, help="Go on with what is decided from now on, until Ctrl-C.")
@socket_option
@json_option
def ledger(  # click gives them by name
    job_id: str | None,
    since_seconds: float | None,
    follow: bool,
    socket_path: Path | None,
    as_json: bool,
) -> None:
    """List decisions, oldest first.

    With --follow the last ten minutes come first unless --since says otherwise, and with --json each entry is
    a line. A controller that is away is waited for.
    """
    if follow:
        back_seconds = _FOLLOW_SECONDS if since_seconds is None else since_seconds
        follow_ledger(socket_path, since_seconds=back_seconds, job_id=job_id, as_json=as_json)
        return
    entries, broken = ledger_entries(socket_path, since_seconds=since_seconds, job_id=job_id)
    if as_json:
        print_json({"entries": entries, "broken_at_sequence": broken})
    else:
        console = Console(soft_wrap=True, highlight=False, markup=False)
        for entry in entries:
            console.print(_line(printable(entry)))
        if not entries:
            console.print("nothing was decided")
    if broken is not None:
        click.echo(f"The ledger was altered: entry {broken} does not follow from its past.", err=True)
        sys.exit(1)


def follow_ledger(
    socket_path: Path | None, *, since_seconds: float, job_id: str | None, as_json: bool
) -> None:
    """Print entries as they come; returns at Ctrl-C, or when nobody reads any more."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    about = {} if job_id is None else {"job_id": job_id}
    last, away, told_broken = 0, "", None
    try:
        while True:
            # After the first entry the number counts alone: a clock that is set does not hide any.
            span = {} if last else {"since_seconds": since_seconds}
            try:
                answer = ask({"op": "ledger", "after_sequence": last, **span, **about}, socket_path)
            except Refusal:
                raise
            except click.ClickException as error:
                if not last and not away:
                    raise
                if error.message != away:
                    click.echo(f"{error.message} Waiting for it.", err=True)
                away = error.message
                time.sleep(_FOLLOW_LOOK_SECONDS)
                continue
            away = ""
            for entry in answer["entries"]:
                last = entry["sequence"]
                if as_json:
                    click.echo(json.dumps(entry))
                else:
                    console.print(_line(printable(entry)))
            broken = answer.get("broken_at_sequence")
            if broken != told_broken and broken is not None:
                click.echo(f"The ledger was altered: entry {broken} does not follow from its past.", err=True)
            told_broken = broken
            if not answer.get("more"):
                time.sleep(_FOLLOW_LOOK_SECONDS)
    except KeyboardInterrupt:
        return


@click.command()
@click.argument("job_id")
@socket_option
@json_option
def why(job_id: str, socket_path: Path | None, as_json: bool) -> None:
    """Explain what was done to a job, and why.

    And what it gained the site; the details follow.
    """
    entries, _ = ledger_entries(socket_path, job_id=job_id)
    job = next(iter(ask({"op": "status", "job_ids": [job_id]}, socket_path)["jobs"]), None)
    record = ask({"op": "job", "job_id": job_id}, socket_path)["record"]
    known = job is not None or bool(entries) or bool(record)
    sentences = three_sentences(job_id, job, record, entries) if known else []
    if as_json:
        print_json({"job": job, "record": record, "entries": entries, "sentences": sentences})
        return
    if not known:
        raise click.ClickException(f"nothing is known of a job {job_id} (or it is not yours)")
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for sentence in sentences:
        console.print(plain_text(sentence))
    console.print()
    if job is not None:
        for sentence in _sentences(printable(job)):
            console.print(sentence)
    else:
        console.print(f"Job {plain_text(job_id)} is no longer in the queue.")
        if record.get("tier"):
            console.print(f"It ran the model tier {plain_text(str(record['tier']))}.")
    for sentence in [*_expectation_sentences(printable(record)), *_energy_sentences(record)]:
        console.print(sentence)
    if not entries:
        return
    console.print("What was decided, oldest first:")
    for entry in entries:
        console.print(_line(printable(entry)))


# Numbers with less behind them are called estimates.
_SURE_RATIO = 0.95


def _sentences(job: Answer) -> list[str]:
    who = f"Job {job['job_id']} ({job['name']}, {job['user']}) is {job['state']}"
    found = [f"{who}: {job['workload']}, {job['flex']}, {job['gpu_count']} GPUs."]
    if job.get("tier"):
        others = ", ".join(job.get("tiers_ok") or ()) or "no other"
        found.append(f"Its model tier is {job['tier']}; it may be moved to {others}.")
    if wishes := _wishes(job):
        found.append(f"Its user asked for: {', '.join(wishes)}.")
    if job["gpu_watts"] is not None:
        used = f"; {energy_text(job['energy_joules'])} so far" if job["energy_joules"] is not None else ""
        covered = job.get("coverage_ratio")
        estimate = covered is not None and covered < _SURE_RATIO
        remark = f" (an estimate: readings cover {percent_text(covered)} of its time)" if estimate else ""
        found.append(f"Its GPUs draw {watts_text(job['gpu_watts'])}{used}{remark}.")
    if job["cap_watts"] is not None and job.get("cap_is_own"):
        found.append(f"Capped at {watts_text(job['cap_watts'])} a GPU: {job['cap_reason']}")
    elif job["cap_watts"] is not None:
        slower = percent_text(job["slowdown_ratio"])
        found.append(
            f"Capped at {watts_text(job['cap_watts'])} a GPU (about {slower} slower): {job['cap_reason']}"
        )
    if job["hold_ends_in_seconds"] is not None:
        left = duration_text(job["hold_ends_in_seconds"])
        found.append(f"Held by us, for another {left} unless renewed: {job['hold_reason']}")
    elif job["pending_reason"]:
        found.append(f"Not held by us; the scheduler says: {job['pending_reason']}.")
    if job["held_seconds"]:
        found.append(f"Held for {duration_text(job['held_seconds'])} in all.")
    if job["state"] == "running" and job["cap_watts"] is None:
        found.append("Not capped now.")
    return found


def _wishes(job: Answer) -> list[str]:
    found = []
    if job.get("max_hold_seconds") is not None:
        found.append(f"no hold of more than {duration_text(job['max_hold_seconds'])}")
    found += [
        f"{words} {job[key]}"
        for key, words in (("finish_by", "an end by"), ("deadline", "Slurm's own deadline"))
        if job.get(key)
    ]
    if job.get("own_cap_watts") is not None:
        found.append(f"{watts_text(job['own_cap_watts'])} a GPU at most")
    if job.get("min_quality") is not None:
        found.append(f"a tier with a quality of {job['min_quality']:g} at least")
    return found


def _expectation_sentences(record: Answer) -> list[str]:
    """What was expected of it when it started and what it rests on, and what came."""
    expected = record.get("expected_mean_watts")
    if expected is None:
        return []
    whose = str(record.get("expected_known_from")).replace("your jobs", f"{record.get('user')}'s jobs")
    found = f"Expected {watts_text(expected)} a GPU (from {record.get('expected_jobs')} of {whose})"
    drew, gpus = record.get("mean_watts"), record.get("gpu_count")
    if drew is not None and gpus:
        found += f"; it drew {watts_text(drew / gpus)}"
    return [f"{found}."]


def _energy_sentences(record: Answer) -> list[str]:
    """Where its energy went, as far as meters tell, and what they leave unexplained."""
    gpus = record.get("energy_joules")
    if gpus is None:
        return []
    remarks = [
        f"{energy_text(record[key])} of it {words}"
        for key, words in (
            ("estimated_joules", "estimated"),
            ("shared_joules", "while others computed there"),
        )
        if record.get(key)
    ]
    found = [f"Energy of its GPUs: {energy_text(gpus)}" + (f" ({', '.join(remarks)})." if remarks else ".")]
    host, pdu, rest = (record.get(key) for key in ("host_joules", "pdu_joules", "residual_joules"))
    if host is not None:
        found.append(f"Its part of the hosts: {energy_text(host)}.")
    if pdu is not None and rest is not None:
        share = f" ({percent_text(rest / pdu)})" if pdu > 0.0 else ""
        found.append(
            f"Its part of the racks, by their PDUs: {energy_text(pdu)}; {energy_text(rest)}{share} of that is"
            " neither GPUs nor hosts: fans, losses, or a sensor that is wrong."
        )
    return found


def _line(entry: Answer) -> str:
    at = datetime.fromisoformat(entry["at"]).astimezone()
    saved = entry["saved_watts"]
    worth = f" ({watts_text(saved)})" if saved else ""
    what = f"{entry['kind']:<{_KIND_WIDTH}} {entry['subject']:<14}"
    return f"{at:%Y-%m-%d %H:%M:%S}  {what} {entry['reason']}{worth}"
