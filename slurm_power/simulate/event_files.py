"""The two tables of ``simulate event``: a mix of jobs, and what caps do to each workload."""

import csv
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from slurm_power.model.job import Flex
from slurm_power.plan.response import CapCurve

MIX_COLUMNS = ("job", "workload", "gpus", "flex", "priority")
_WORKLOAD, _CAP, _DRAW = "Workload", "GPU power cap", "power per GPU"
_THROUGHPUT, _NORMALIZED = "throughput", "normalized throughput"
_MOST_PROBLEMS = 20
_MOST_GPUS = 1_000_000
# Wider apart, and a solver's rounding decides for the lighter one.
_LEAST_PRIORITY, _MOST_PRIORITY = 1e-6, 1e6
_MOST_GPU_WATTS = 1e6
_MOST_THROUGHPUT = 1e12
_EXTRA = "it has more columns than row 1 names; is a comma within a number?"
# A mix may name a class instead of a workload, where just one workload of the curves has such a word in its
# name.
_CLASS_WORDS = {
    "training": ("pt", "ft", "pretrain", "finetune", "train", "training"),
    "inference": ("infer", "inference", "serve", "serving"),
    "generation": ("gen", "generate", "generation", "decode", "decoding"),
}


class EventTableError(ValueError):
    """Tables that cannot be used; ``problems`` are sentences for the user, with rows."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("; ".join(problems))
        self.problems = problems


@dataclass(frozen=True, slots=True, kw_only=True)
class MixJob:
    """One job of a mix; ``workload`` is a key of the curves."""

    name: str
    workload: str
    gpus: int
    flex: Flex
    priority: float


def read_curves(lines: Iterable[str], name: str) -> dict[str, CapCurve]:
    """Curves by workload; caps in any order, rows of one cap averaged, performance 1 at the highest cap.

    Performance is the column ``normalized throughput``, or ``throughput`` for a workload that lacks a value
    there. Raises EventTableError.
    """
    table = csv.DictReader(lines, strict=True, skipinitialspace=True)
    headings = _headings(table, name, (_WORKLOAD, _CAP, _DRAW), either=(_THROUGHPUT, _NORMALIZED))
    rows: dict[str, list[_CurveRow]] = {}
    problems: list[str] = []
    for number, row in enumerate(table, start=2):
        found: list[str] = []
        values = {column: row.get(heading) or "" for column, heading in headings.items()}
        workload = values[_WORKLOAD].strip()
        if any(row.get(None) or ()):
            found.append(_EXTRA)
        if not workload:
            found.append("Workload is empty")
        point = _CurveRow(
            cap_watts=_number(values, _CAP, found, most=_MOST_GPU_WATTS),
            gpu_watts=_number(values, _DRAW, found, most=_MOST_GPU_WATTS),
            normalized=_throughput(values, _NORMALIZED, found),
            throughput=_throughput(values, _THROUGHPUT, found),
        )
        if not found and math.isnan(point.normalized) and math.isnan(point.throughput):
            found.append(f"{_THROUGHPUT} and {_NORMALIZED} are both empty")
        problems += [f"{name}: row {number}: {problem}" for problem in found]
        if not found:
            rows.setdefault(workload, []).append(point)
    curves = {}
    for workload, points in rows.items():
        try:
            curves[workload] = _curve(points)
        except ValueError as error:
            problems.append(f"{name}: {workload}: {error}")
    if not rows and not problems:
        problems.append(f"{name}: it has no rows")
    if problems:
        raise EventTableError(_shortened(problems))
    return curves


def read_mix(lines: Iterable[str], name: str, curves: Mapping[str, CapCurve] | None) -> list[MixJob]:
    """Jobs in the order of the file; with no curves workloads are not looked up. Raises EventTableError."""
    table = csv.DictReader(lines, strict=True, skipinitialspace=True)
    headings = _headings(table, name, MIX_COLUMNS)
    jobs: dict[str, MixJob] = {}
    problems: list[str] = []
    for number, row in enumerate(table, start=2):
        found: list[str] = []
        values = {column: (row.get(heading) or "").strip() for column, heading in headings.items()}
        if any(row.get(None) or ()):
            found.append(_EXTRA)
        job = MixJob(
            name=values["job"],
            workload=_workload(values["workload"], curves, found),
            gpus=_gpus(values, found),
            flex=_flex(values["flex"], found),
            priority=_priority(values, found),
        )
        if not job.name or job.name in jobs or job.name == "ess":
            why = "stands there twice" if job.name in jobs else "is taken" if job.name else "is empty"
            found.append(f"job {job.name!r} {why}; give each job a name of its own (not 'ess')")
        jobs[job.name] = job
        problems += [f"{name}: row {number}: {problem}" for problem in found]
    if not jobs:
        problems.append(f"{name}: it has no jobs")
    if problems:
        raise EventTableError(_shortened(problems))
    return list(jobs.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class _CurveRow:
    cap_watts: float
    gpu_watts: float
    normalized: float
    throughput: float


def _curve(rows: list[_CurveRow]) -> CapCurve:
    column = "throughput" if any(math.isnan(row.normalized) for row in rows) else "normalized"
    by_cap: dict[float, list[tuple[float, float]]] = {}
    for row in rows:
        performance = getattr(row, column)
        if math.isnan(performance):
            raise ValueError(f"neither {_NORMALIZED} nor {_THROUGHPUT} is there for each of its caps")
        by_cap.setdefault(row.cap_watts, []).append((row.gpu_watts, performance))
    caps = sorted(by_cap)
    means = [
        tuple(sum(column) / len(by_cap[cap]) for column in zip(*by_cap[cap], strict=True)) for cap in caps
    ]
    uncapped = means[-1][1]
    if uncapped <= 0.0:
        raise ValueError("it does nothing at its highest cap, so that performance has no measure")
    return CapCurve(
        caps_watts=tuple(caps),
        gpu_watts=tuple(watts for watts, _ in means),
        performance_ratios=tuple(performance / uncapped for _, performance in means),
    )


def _headings(
    table: "csv.DictReader[str]", name: str, needed: tuple[str, ...], either: tuple[str, ...] = ()
) -> dict[str, str]:
    """The file's own spelling of each column; the case of letters and spaces around do not matter."""
    known = {heading.strip().lower(): heading for heading in table.fieldnames or ()}
    missing = [column for column in needed if column.lower() not in known]
    if either and not any(column.lower() in known for column in either):
        missing.append(" or ".join(either))
    if missing:
        raise EventTableError([f"{name}: row 1 lacks {', '.join(missing)}"])
    return {column: known.get(column.lower(), "") for column in (*needed, *either)}


def _number(
    values: Mapping[str, str], column: str, found: list[str], *, zero: bool = False, most: float = math.inf
) -> float:
    text = values[column].strip()
    try:
        value = float(text)
    except ValueError:
        found.append(f"{column} {text!r} is no number")
        return math.nan
    if not math.isfinite(value) or value < 0.0 or (value == 0.0 and not zero):
        found.append(f"{column} {text!r} has to be {'0 or more' if zero else 'more than 0'}")
    elif value > most:
        found.append(f"{column} {text!r} is more than {most:g}")
    return value


def _throughput(values: Mapping[str, str], column: str, found: list[str]) -> float:
    """NaN where the file says nothing, which it may."""
    if values[column].strip().lower() in ("", "nan"):
        return math.nan
    return _number(values, column, found, zero=True, most=_MOST_THROUGHPUT)


def _gpus(values: Mapping[str, str], found: list[str]) -> int:
    gpus = _number(values, "gpus", found)
    if gpus > 0.0 and (gpus != int(gpus) or gpus > _MOST_GPUS):
        found.append(f"gpus {values['gpus']!r} has to be a whole number up to {_MOST_GPUS}")
    return int(gpus) if math.isfinite(gpus) else 0


def _priority(values: Mapping[str, str], found: list[str]) -> float:
    priority = _number(values, "priority", found)
    if priority > 0.0 and not _LEAST_PRIORITY <= priority <= _MOST_PRIORITY and math.isfinite(priority):
        found.append(f"priority {values['priority']!r} has to be {_LEAST_PRIORITY:f} to {_MOST_PRIORITY:.0f}")
    return priority


def _flex(text: str, found: list[str]) -> Flex:
    word = text.lower().replace(" ", "")
    try:
        return Flex(word if word.startswith("flex") else f"flex{word}")
    except ValueError:
        found.append(f"flex {text!r} is none of {', '.join(Flex)}")
        return Flex.FLEX0


def _workload(text: str, curves: Mapping[str, CapCurve] | None, found: list[str]) -> str:
    if curves is None or text in curves:
        return text
    known = ", ".join(sorted(curves))
    words = _CLASS_WORDS.get(text.lower())
    if words is None:
        found.append(f"workload {text!r} has no curve; there are {known}")
        return text
    fitting = [name for name in curves if set(re.split(r"[^a-z0-9]+", name.lower())) & set(words)]
    if len(fitting) != 1:
        which = f"{len(fitting)} curves" if fitting else "none"
        found.append(f"workload {text!r} fits {which}; name the one you mean of {known}")
        return text
    return fitting[0]


def _shortened(problems: list[str]) -> list[str]:
    if len(problems) <= _MOST_PROBLEMS:
        return problems
    return [*problems[:_MOST_PROBLEMS], f"and {len(problems) - _MOST_PROBLEMS} more"]
