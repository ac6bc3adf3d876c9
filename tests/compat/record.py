"""Compare two submissions: what both commands said, and what Slurm holds of both jobs.

What may differ stands in this file, and nowhere else.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from tests.compat.slurm import Outcome

# What we set on a job that says something about its power: the only fields in which such a job may differ
# from one that does not. A submission without a word of ours must be equal in these, too.
OUR_FIELDS = frozenset({"AdminComment", "Licenses", "TRES", "ReqTRES"})
# It has the words themselves, which psbatch hands on as variables; shown from 26.05 on.
OUR_WORDS = frozenset({"SubmitLine"})
OUR_VARIABLES = re.compile(
    rb"^(?:(?:SLURM_SPANK_)?_SLURM_SPANK_OPTION_slurm_power_\w+|(?:SLURM_(?:SPANK_)?)?POWER_[A-Z_]+)="
)

# Said by psbatch while powerctld does not answer in time, as on a busy machine, and where a tier is said and
# no catalog is there; the submission goes on.
OUR_NOTE = re.compile(
    rb"^psbatch: (no power controller[^\n]*: submitting plainly|there is no catalog[^\n]*is not checked)\n",
    re.MULTILINE,
)

# Different by nature: each job has its own number, also inside these fields...
NUMBERED_FIELDS = frozenset(
    {"JobId", "ArrayJobId", "HetJobId", "HetJobIdSet", "StdErr", "StdIn", "StdOut", "Dependency"}
)
# ...and was submitted at its own moment. Times must be equal, or lie equally far from the submission.
TIME_FIELDS = frozenset(
    {
        "SubmitTime",
        "EligibleTime",
        "AccrueTime",
        "StartTime",
        "EndTime",
        "Deadline",
        "LastSchedEval",
        "RunTime",
    }
)
# The client reads "now" and the controller notes the submission, each in whole seconds.
TIME_TOLERANCE_SECONDS = 2.0
# --test-only names the number and the start that such a job would get, 25 s after now or an estimate.
EXPECTED_START = re.compile(rb"Job \d+ to start at \S+ ")

_FIELD = re.compile(r"(?:^| )([A-Za-z][\w/:]*)=")
_SUBMITTED = re.compile(rb"^(?:Submitted batch job )?(\d+)(?: on cluster \S+|;\S*)?$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Component:
    """One job in Slurm's books; a heterogeneous job has several."""

    number: int
    fields: dict[str, str]
    script: bytes = b""
    environment: bytes = b""


@dataclass(frozen=True, slots=True)
class Submission:
    """How a command ended, and what it made: its job's components, none where it made no job."""

    outcome: Outcome
    components: Sequence[Component] = field(default_factory=tuple)


def submitted_number(stdout: bytes) -> int | None:
    """Return the job's number as sbatch printed it."""
    match = _SUBMITTED.search(stdout)
    return int(match[1]) if match else None


def parse(text: str) -> dict[str, str]:
    """Split one line of ``scontrol -o show job``; a value with a blank and ``word=`` in it splits as well."""
    places = list(_FIELD.finditer(text))
    ends = [place.start() for place in places[1:]] + [len(text)]
    fields: dict[str, str] = {}
    for place, end in zip(places, ends, strict=True):
        name = place[1]
        while name in fields:
            name += "'"
        fields[name] = text[place.end() : end]
    return fields


def differences(
    left: Submission,
    right: Submission,
    *,
    our_fields: bool = False,
    our_variables: bool = False,
    adds_before: bool = False,
) -> list[str]:
    """List every difference that is not named above.

    ``our_fields`` and ``our_variables`` allow what a word about power sets; ``adds_before`` that psbatch says
    something more, first.
    """
    found = _said(left, right, adds_before)
    ours = (OUR_FIELDS if our_fields else frozenset()) | (OUR_WORDS if our_variables else frozenset())
    if len(left.components) != len(right.components):
        return [*found, f"jobs made: {_numbers(left)} and {_numbers(right)}"]
    for offset, (one, other) in enumerate(zip(left.components, right.components, strict=True)):
        where = f"component {offset}: " if len(left.components) > 1 else ""
        found += [where + text for text in _unequal_fields(one, other, left, right, ours)]
        if one.script != other.script:
            found.append(f"{where}script: {one.script!r} and {other.script!r}")
        found += [where + text for text in _unequal_environment(one, other, our_variables)]
    return found


def _numbers(submission: Submission) -> list[int]:
    return [component.number for component in submission.components]


def _said(left: Submission, right: Submission, adds_before: bool) -> list[str]:
    found = []
    if left.outcome.status != right.outcome.status:
        found.append(f"status: {left.outcome.status} and {right.outcome.status}")
    for stream in ("stdout", "stderr"):
        one, other = (_words(submission, stream) for submission in (left, right))
        if adds_before and stream == "stdout":
            other = other[-len(one) :] if one else b""
        if one != other:
            found.append(f"{stream}: {one!r} and {other!r}")
    return found


def _words(submission: Submission, stream: str) -> bytes:
    text: bytes = getattr(submission.outcome, stream)
    text = OUR_NOTE.sub(b"", text)  # also on stdout, where a case leads its errors there
    text = EXPECTED_START.sub(b"Job N to start at T ", text)
    for number in _numbers(submission)[:1]:
        text = re.sub(rb"\b%d\b" % number, b"<job>", text)
    return text


def _unequal_fields(
    one: Component, other: Component, left: Submission, right: Submission, ours: frozenset[str]
) -> list[str]:
    found = []
    for name in dict.fromkeys([*one.fields, *other.fields]):
        if name in ours:
            continue
        a, b = one.fields.get(name), other.fields.get(name)
        if a == b:
            continue
        if a is not None and b is not None:
            if name in NUMBERED_FIELDS and _unnumbered(a, left) == _unnumbered(b, right):
                continue
            if name in TIME_FIELDS and _same_moment(a, b, one, other):
                continue
        found.append(f"{name}: {a!r} and {b!r}")
    return found


def _unnumbered(text: str, submission: Submission) -> str:
    # A folder's own digits are no numbers.
    text = text.replace(submission.components[0].fields.get("WorkDir", ""), "<folder>")
    for offset, number in enumerate(_numbers(submission)):
        text = re.sub(rf"(?<!\d){number}(?!\d)", f"<job+{offset}>", text)
    return text


def _same_moment(a: str, b: str, one: Component, other: Component) -> bool:
    try:
        since = [
            (datetime.fromisoformat(text) - datetime.fromisoformat(component.fields["SubmitTime"]))
            for text, component in ((a, one), (b, other))
        ]
    except ValueError:
        return False
    return abs((since[0] - since[1]).total_seconds()) <= TIME_TOLERANCE_SECONDS


def _unequal_environment(one: Component, other: Component, ours: bool) -> list[str]:
    a, b = (component.environment.split(b"\0") for component in (one, other))
    if ours:
        # The first entry is their count.
        a, b = ([entry for entry in entries[1:] if not OUR_VARIABLES.search(entry)] for entries in (a, b))
    if a == b:
        return []
    only = [sorted(set(a) - set(b)), sorted(set(b) - set(a))]
    if any(only):
        return [f"environment: only sbatch {only[0]!r}, only psbatch {only[1]!r}"]
    return ["environment: the same variables in another order or number"]
