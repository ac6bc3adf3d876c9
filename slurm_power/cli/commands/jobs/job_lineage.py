"""``slurm-power jobs --lineage JOB``: the runs a job was made of, and the model tier that made its result."""

from datetime import datetime
from pathlib import Path
from typing import Any

import click

from slurm_power.cli.commands.connection import ask, print_json
from slurm_power.cli.commands.jobs.job_rows import AskedWrongly
from slurm_power.cli.commands.quantities import energy_text, plain_text


def show_lineage(job: str | None, socket_path: Path | None, *, as_json: bool) -> None:
    """Ask powerctld and print; raises ClickException for a job that nobody knows."""
    if job is None or not job.isdecimal():
        raise AskedWrongly("--lineage: name one JOB by its number, as squeue's %A has it")
    found = ask({"op": "lineage", "job_id": job}, socket_path)
    if found["job"] is None:
        raise click.ClickException(f"nothing is known of a job {job} (or it is not yours)")
    if as_json:
        print_json({"job": found["job"], "runs": found["runs"]})
        return
    click.echo("\n".join(plain_text(line) for line in lineage_lines(found["job"], found["runs"])))


def lineage_lines(job: dict[str, Any], runs: list[dict[str, Any]]) -> list[str]:
    """The runs in words, one line each, and whose the result is."""
    name = f"Job {job['job_id']} ({job.get('name') or 'without a name'}, {job.get('user')})"
    if not runs:
        return [f"{name}: no run of it has named a model tier."]
    times = "once" if len(runs) == 1 else f"{len(runs)} times"
    lines = [f"{name} has started {times}."]
    for run in runs:
        gpus = run.get("gpu_count")
        where = f" on {gpus} GPUs" if gpus is not None else ""
        used = energy_text(float(run.get("joules") or 0.0))
        span = f"{_clock(run.get('from'))} to {_clock(run.get('to'))}"
        why = f"; moved because {run['why']}" if run.get("why") else ""
        lines.append(f"  start {run['start']}: {run.get('tier') or 'no tier'}{where}, {span}, {used}{why}")
    tier = runs[-1].get("tier") or "no tier"
    ended = job.get("state") == "ended"
    lines.append(f"Its result is of {tier}." if ended else f"It is on {tier} now.")
    return lines


def _clock(moment: object) -> str:
    try:
        return f"{datetime.fromisoformat(str(moment)).astimezone():%m-%d %H:%M:%S}"
    except ValueError:
        return "?"
