r"""Follows a document literally: runs its command blocks in order, and compares what it shows with what came.

A block is fenced as ``console``; ``$ `` starts a command, which ``\`` continues; other lines are what it
shows. In those ``...`` stands for anything, a line of it for any lines; numbers, and the room between words,
may differ. The job that a document calls 1 is the one whose submission it shows. HTML comments before a block
say who runs it: ``<!-- as alice -->`` from here on, ``<!-- ends with 2 -->`` for the exit status of the next
block's last command, ``<!-- meanwhile the operator: COMMAND -->`` for what somebody else does, ``<!-- on each
node -->`` for commands that every node gets, ``<!-- the reader: TEXT -->`` for what no command can do.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

# Commands that only look may be asked again until what they show has come.
LOOKING = re.compile(
    r"(slurm-power (status|why|ledger|check|sources|jobs|report shadow|uninstall --verify)\b"
    r"|squeue|sinfo|cat |grep )"
)
# A job by its number, alone or in the name of its output.
_JOB = re.compile(r"(?<!\S)\d+(?!\S)|(?<=-)\d+(?=\.(?:out|csv)\b)")
_SUBMITTED = re.compile(r"Submitted batch job (\d+)")
PATIENCE_SECONDS = 45.0


@dataclass(slots=True, kw_only=True)
class Step:
    """A command, who runs it, what the document shows of its output, and the exit status it has."""

    command: str
    who: str
    shown: list[str] = field(default_factory=list)
    status: int = 0


Run = Callable[[str, str], tuple[int, str]]


def steps(document: str) -> list[Step]:
    """All commands of a document's text in their order."""
    found: list[Step] = []
    who, status, fenced = "root", 0, False
    lines = iter(document.splitlines())
    for line in lines:
        if (comment := re.fullmatch(r"<!-- (.*) -->", line)) is not None:
            who, status, others = _remark(comment[1], who, status)
            found += others
        elif line.startswith("```"):
            fenced = not fenced and line == "```console"
            if not fenced and status:
                found[-1].status, status = status, 0
        elif fenced and line.startswith("$ "):
            command = line.removeprefix("$ ")
            while command.endswith("\\"):
                command = command.removesuffix("\\") + next(lines).strip()
            found.append(Step(command=command, who=who))
        elif fenced:
            found[-1].shown.append(line)
    return found


def _remark(words: str, who: str, status: int) -> tuple[str, int, list[Step]]:
    """What a comment says: who goes on, with which status the next block ends, what somebody else does."""
    if words.startswith("as "):
        return words.removeprefix("as "), status, []
    if words == "on each node":
        return "each node", status, []
    if words.startswith("ends with "):
        return who, int(words.removeprefix("ends with ")), []
    for start, other in (("the reader: ", "reader"), ("meanwhile the operator: ", "root")):
        if words.startswith(start):
            return who, status, [Step(command=words.removeprefix(start), who=other)]
    raise ValueError(f"what does <!-- {words} --> mean?")


def follow(document: str, run: Run, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
    """Run every step of a document's text; raises AssertionError with the first that is not as it says.

    A command that only looks is asked again for ``patience_seconds``.
    """
    jobs: dict[str, str] = {}
    for step in steps(document):
        command = _JOB.sub(lambda found: jobs.get(found[0], found[0]), step.command)
        until = time.monotonic() + patience_seconds
        print(f"$ {command}")
        while True:
            status, said = run(step.who, command)
            missing = first_missing(step.shown, said)
            if missing is None and status == step.status:
                break
            if LOOKING.match(step.command) is None or time.monotonic() > until:
                wrong = (
                    f"status {status}, not {step.status}" if missing is None else f"no line like {missing!r}"
                )
                raise AssertionError(f"$ {step.command}\n{wrong} in:\n{said}")
            time.sleep(0.2)
        named, came = _SUBMITTED.search("\n".join(step.shown)), _SUBMITTED.search(said)
        if named is not None and came is not None:
            jobs[named[1]] = came[1]


def first_missing(shown: list[str], said: str) -> str | None:
    """The first line of a document that did not come, in order, None when all came."""
    lines = iter(said.splitlines())
    for line in shown:
        if not line.strip() or line.strip() == "...":
            continue
        wanted = _pattern(line)
        if not any(wanted.fullmatch(" ".join(came.split())) for came in lines):
            return line
    return None


def _pattern(line: str) -> "re.Pattern[str]":
    parts = re.split(r"(\.\.\.|-?\d[\d.,:]*)", " ".join(line.split()))
    return re.compile(
        "".join(
            ".*" if part == "..." else r"-?\d[\d.,:]*" if re.match(r"-?\d", part) else re.escape(part)
            for part in parts
        )
    )
