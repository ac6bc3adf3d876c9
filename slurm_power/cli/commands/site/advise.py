"""``slurm-power advise``: ask a running training to take smaller bites, to wait, or to save itself."""

from pathlib import Path
from typing import Any

import click

from slurm_power.cli.commands.connection import Answer, ask, json_option, print_json, socket_option
from slurm_power.cli.commands.quantities import Duration, duration_text, plain_text

MOST_SECONDS = 7 * 86_400.0
MOST_MICRO_BATCH = 1 << 30


@click.command()
@click.argument("job")
@click.option(
    "--micro-batch",
    "micro_text",
    help="Samples that each rank takes at a time at most; the global batch stays.",
)
@click.option("--pause", is_flag=True, help="Wait at the end of a step.")
@click.option("--resume", is_flag=True, help="Go on, if it was paused by this command.")
@click.option(
    "--checkpoint", is_flag=True, help="Save at the end of a step and end with status 85: queue me again."
)
@click.option("--clear", is_flag=True, help="Take back all that this command has asked.")
@click.option("--for", "duration_text_given", help="How long it holds: 10m, 2h, at most 7d (default: 10m).")
@click.option("--reason", default="", help="Why, in words for the job's log.")
@socket_option
@json_option
def advise(  # noqa: PLR0917 - click passes each option by its name
    job: str,
    micro_text: str | None,
    pause: bool,
    resume: bool,
    checkpoint: bool,
    clear: bool,
    duration_text_given: str | None,
    reason: str,
    socket_path: Path | None,
    as_json: bool,
) -> None:
    """Ask a running training to take smaller bites, wait or save.

    JOB is yours, and uses slurm_power.advice.

    It follows at the end of its step, all its ranks together. docs/advice.md says what each knob does.
    """
    problems: list[str] = []
    actions = [word for word, said in (("pause", pause), ("run", resume), ("checkpoint", checkpoint)) if said]
    if not (job.isascii() and job.isdigit()):
        problems.append(f"JOB: {job!r} is not the number of a job, as squeue shows it")
    if len(actions) > 1:
        problems.append("--pause, --resume, --checkpoint: give one of them")
    micro_batch = _micro_batch(micro_text, problems)
    seconds = _seconds(duration_text_given, problems)
    if clear and (actions or micro_text is not None or duration_text_given is not None):
        problems.append("--clear: takes everything back; give it alone")
    if not clear and not actions and micro_text is None:
        problems.append("say what is asked: --micro-batch, --pause, --resume, --checkpoint or --clear")
    if problems:
        raise click.UsageError("\n  ".join(problems))
    request: dict[str, Any] = {"op": "advise", "job_id": job}
    if clear:
        request["clear"] = True
    else:
        action = actions[0] if actions else None
        request |= {"micro_batch": micro_batch, "action": action, "seconds": seconds, "reason": reason}
    answer = ask(request, socket_path)
    if as_json:
        print_json(answer)
        return
    for line in _lines(job, request, answer):
        click.echo(line)


def _micro_batch(text: str | None, problems: list[str]) -> int | None:
    if text is None:
        return None
    if text.isascii() and text.isdigit() and 1 <= int(text[:11]) <= MOST_MICRO_BATCH:
        return int(text)
    problems.append(f"--micro-batch: {text!r} is not a whole number from 1 to {MOST_MICRO_BATCH}")
    return None


def _seconds(text: str | None, problems: list[str]) -> float:
    if text is None:
        return 600.0
    try:
        seconds = Duration().convert(text, None, None)
    except click.BadParameter as error:
        problems.append(f"--for: {error.message}")
        return 0.0
    if not 0.0 < seconds <= MOST_SECONDS:
        problems.append("--for: more than nothing, and 7d at most")
    return seconds


def _lines(job: str, request: dict[str, Any], answer: Answer) -> list[str]:
    """What was asked, and what there is to know about who is to follow it."""
    if request.get("clear"):
        return [f"job {job}: nothing is asked any more"]
    deeds = {"pause": "to pause", "run": "to go on", "checkpoint": "to save itself and end", None: ""}
    asked = [deeds[request["action"]]] if request["action"] else []
    if request["micro_batch"] is not None:
        asked.append(f"to take {request['micro_batch']} samples at a time")
    lines = [f"job {job}: asked {' and '.join(asked)}, for {duration_text(request['seconds'])}"]
    progress = answer.get("progress")
    if not isinstance(progress, dict):
        return [*lines, "  it has told nothing of itself: does it use slurm_power.advice?"]
    rate = f"{float(progress.get('samples_per_second') or 0.0):.4g} samples/s"
    lines.append(f"  it is at step {plain_text(progress.get('step'))}, {rate}")
    if request["action"] == "checkpoint" and progress.get("checkpoints") is not True:
        lines.append("  it says that it cannot save itself: it will go on")
    if request["micro_batch"] is not None and progress.get("max_micro_batch") is None:
        lines.append("  it says that its micro-batch cannot be changed")
    return lines
