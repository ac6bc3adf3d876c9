"""The columns of ``slurm-power jobs``, in sacct's manner: names, widths, and what stands in them."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, NamedTuple

from slurm_power.cli.commands.jobs.job_rows import Row
from slurm_power.model.receipt import Receipt

DEFAULT = "JobID,JobName,User,State,Elapsed,GPUs,Energy,MeanPower,PeakPower,Cap,Slowdown,Held,Cost,CO2"
_JOULES_PER_KWH = 3.6e6


class Field(NamedTuple):
    """One column: what it says of a job, and what that is."""

    name: str
    text: Callable[[Row], str]
    meaning: str


class Column(NamedTuple):
    """A wanted column; ``width`` as asked for (negative: to the left), None: as wide as what is in it."""

    field: Field
    width: int | None = None


def _of(read: Callable[[Receipt], str]) -> Callable[[Row], str]:
    return lambda row: "" if row.receipt is None else read(row.receipt)


def _number(value: float | None, form: str = ".0f", unit: str = "") -> str:
    return "" if value is None else f"{value:{form}}{unit}"


def energy(joules: float | None, *, estimate: bool = False, gap: str = "") -> str:
    """``1.234kWh`` or ``12.3Wh``, with ~ before an estimate; "" for unknown. ``gap`` is before the unit."""
    if joules is None:
        return ""
    kwh = joules / _JOULES_PER_KWH
    text = f"{kwh:.3f}{gap}kWh" if kwh >= 1.0 else f"{1000 * kwh:.1f}{gap}Wh"
    return f"{'~' if estimate else ''}{text}"


def power(watts: float | None, *, gap: str = "") -> str:
    """``450W`` or ``4.39kW``; "" for unknown."""
    if watts is None:
        return ""
    return f"{watts:.0f}{gap}W" if watts < 1000 else f"{watts / 1000:.2f}{gap}kW"


def duration(seconds: float | None) -> str:
    """As Slurm writes it: ``[D-]HH:MM:SS``; "" for unknown."""
    if seconds is None:
        return ""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    return f"{f'{days}-' if days else ''}{hour:02}:{minute:02}:{second:02}"


def grams(value: float | None, *, gap: str = "") -> str:
    """``12.3g`` or ``1.23kg``; "" for unknown."""
    if value is None:
        return ""
    return f"{value:.1f}{gap}g" if value < 1000 else f"{value / 1000:.2f}{gap}kg"


def _time(value: datetime | None) -> str:
    return "" if value is None else f"{value:%Y-%m-%dT%H:%M:%S}"


def _percent(ratio: float | None) -> str:
    return _number(None if ratio is None else 100 * ratio, ".1f", "%")


def _joules(value: float | None) -> str:
    return _number(value)


FIELDS = (
    Field("JobID", lambda row: row.job_id, "the job, as Slurm names it"),
    Field("JobIDRaw", lambda row: row.raw_id, "the job's number; of an array's task its own"),
    Field("JobName", lambda row: row.name, "its name"),
    Field("User", lambda row: row.user, "whose it is"),
    Field("Account", lambda row: row.account, "the account it is charged to"),
    Field("State", lambda row: row.state, "Slurm's state; without accounting ENDED for all that have ended"),
    Field(
        "Workload", lambda row: row.workload, "training, inference or generation; known to powerctld alone"
    ),
    Field("Flex", lambda row: row.flex, "its user's promise, flex0 to flex3; known to powerctld alone"),
    Field(
        "Tier",
        lambda row: row.tier or ("" if row.receipt is None else row.receipt.tier),
        "the model tier that it ran at the end",
    ),
    Field("Submit", lambda row: _time(row.submit), "when it was submitted"),
    Field("Start", lambda row: _time(row.start), "when it started"),
    Field("End", lambda row: _time(row.end), "when it ended"),
    Field("Elapsed", lambda row: duration(row.elapsed_seconds), "how long it ran, as [D-]HH:MM:SS"),
    Field("ElapsedRaw", lambda row: _number(row.elapsed_seconds), "the same in seconds"),
    Field("GPUs", lambda row: _number(row.gpu_count), "how many GPUs it had"),
    Field("NodeList", lambda row: row.nodes, "its nodes"),
    Field(
        "Energy",
        _of(lambda one: energy(one.energy_joules, estimate=one.is_estimate)),
        "what its GPUs used; ~ before an estimate: less than 95 % of its time was read",
    ),
    Field("EnergyRaw", _of(lambda one: _joules(one.energy_joules)), "the same in joules"),
    Field("HostEnergy", _of(lambda one: energy(one.host_joules)), "its part of its hosts, where measured"),
    Field("HostEnergyRaw", _of(lambda one: _joules(one.host_joules)), "the same in joules"),
    Field("PduEnergy", _of(lambda one: energy(one.pdu_joules)), "its part of its racks, by their PDUs"),
    Field("PduEnergyRaw", _of(lambda one: _joules(one.pdu_joules)), "the same in joules"),
    Field("MeanPower", _of(lambda one: power(one.mean_watts)), "mean power of its GPUs together"),
    Field("PeakPower", _of(lambda one: power(one.peak_watts)), "highest power of its GPUs together"),
    Field("Cap", _of(lambda one: power(one.lowest_cap_watts)), "lowest cap of a GPU; empty: never capped"),
    Field("Capped", _of(lambda one: duration(one.capped_seconds)), "how long it was capped"),
    Field("Slowdown", _of(lambda one: _percent(one.slowdown_ratio)), "work lost to caps, of its whole run"),
    Field("Held", _of(lambda one: duration(one.held_seconds)), "how long it was held before its start"),
    Field("Paused", _of(lambda one: duration(one.paused_seconds)), "how long it was stopped by us"),
    Field("Cost", _of(lambda one: _number(one.cost, ".4f")), "in the currency of the site's prices"),
    Field("CO2", _of(lambda one: grams(one.co2_grams)), "emitted for it, where the site knows how much"),
    Field("Coverage", _of(lambda one: _percent(one.coverage_ratio)), "how much of its GPUs' time was read"),
    Field("Estimated", _of(lambda one: _percent(one.estimated_ratio)), "energy by power, not by counters"),
    Field("Shared", _of(lambda one: _percent(one.shared_ratio)), "energy used while others computed there"),
    Field("Method", _of(lambda one: one.method or ""), "counter, power, mixed or shared; docs/energy.md"),
    Field(
        "Receipt",
        lambda row: ("final" if row.final else "so far") if row.receipt is not None else "",
        "whether its nodes have closed their accounts",
    ),
)
_BY_NAME = {field.name.lower(): field for field in FIELDS}


def columns(text: str, problems: list[str]) -> list[Column]:
    """The columns of ``JobID,JobName%20,...``; adds what is wrong to ``problems``."""
    found = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        name, sign, width = word.partition("%")
        field = _BY_NAME.get(name.lower())
        if field is None:
            near = difflib.get_close_matches(name.lower(), _BY_NAME, n=1)
            hint = f"; did you mean {_BY_NAME[near[0]].name}?" if near else ""
            problems.append(f"--format: there is no field {name!r}{hint}")
        elif sign and not width.removeprefix("-").isdigit():
            problems.append(f"--format: {word}: {width!r} is no width")
        else:
            found.append(Column(field, int(width) if sign else None))
    if not found and not problems:
        problems.append("--format: name at least one field; --helpformat lists them")
    return found


def table(rows: Sequence[Row], wanted: Sequence[Column], *, header: bool) -> list[str]:
    """Lines as sacct prints them: a heading, dashes, a line a job; what is too long ends with +."""
    cells = [[column.field.text(row) for column in wanted] for row in rows]
    names = [column.field.name for column in wanted]
    lines = [*([names] if header else []), *cells]
    widths = [
        max((len(line[place]) for line in lines), default=0) if column.width is None else abs(column.width)
        for place, column in enumerate(wanted)
    ]
    left = [(column.width or 0) < 0 or column.field.name in _TO_THE_LEFT for column in wanted]
    shown = [_line(line, widths, left) for line in lines]
    if header:
        shown.insert(1, " ".join("-" * width for width in widths))
    return shown


_TO_THE_LEFT = frozenset({"JobID", "JobIDRaw", "JobName", "User", "Account", "State", "NodeList", "Tier"})


def _line(cells: Sequence[str], widths: Sequence[int], left: Sequence[bool]) -> str:
    fitted = [
        cell if len(cell) <= width else f"{cell[: max(0, width - 1)]}+"
        for cell, width in zip(cells, widths, strict=True)
    ]
    return " ".join(
        cell.ljust(width) if to_left else cell.rjust(width)
        for cell, width, to_left in zip(fitted, widths, left, strict=True)
    ).rstrip()


def as_object(row: Row) -> dict[str, Any]:
    """A row for programs: everything by its name, times with their zone, the receipt as it travels."""
    values = {name: value for name, value in asdict(row).items() if name != "receipt"}
    plain = {
        name: value.isoformat() if isinstance(value, datetime) else value for name, value in values.items()
    }
    return {
        **plain,
        "receipt": None if row.receipt is None else row.receipt.as_json(),
        "is_estimate": None if row.receipt is None else row.receipt.is_estimate,
    }
