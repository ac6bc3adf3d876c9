"""A job's energy receipt: what it used, how that is known, and what our levers did to it; docs/energy.md.

A receipt travels as a small JSON object. What is not known is left out of it, never made up.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

from slurm_power.model.tier_words import tier_of

VERSION = 1
# A receipt stands in a job's record for ever: it stays small, whatever the job did.
MOST_BYTES = 1000
MOST_STEPS = 8
# Below this share of what should have been read or paid for, a number is an estimate, or none.
SURE_RATIO = 0.95
_JOULES_PER_KWH = 3.6e6
# What counters show to the last joule is no mixture for a second or two of power readings at the ends.
_COUNTER_RATIO = 0.05


class Method(StrEnum):
    """How the energy of a job's GPUs is known."""

    COUNTER = "counter"  # by the driver's energy counters
    POWER = "power"  # by power readings, integrated
    MIXED = "mixed"  # some of it so, some so
    SHARED = "shared"  # others computed on its GPUs meanwhile, and what they used is in it


class CostBasis(StrEnum):
    """Whose energy was paid for."""

    PDU = "pdu"  # the job's part of its racks
    GPUS_AND_HOST = "gpus+host"
    GPUS = "gpus"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """One job's receipt; None is unknown, or for a cap: none was set.

    Energies are of the whole job: its GPUs, its part of its hosts, and its part of its racks by their PDUs
    (which holds the other two). ``mean_watts`` and ``peak_watts`` are of its GPUs together, caps of one GPU.
    ``coverage_ratio`` is the share of the GPUs' time with readings close together, on all its nodes.
    ``cost`` is in the currency of the site's prices. ``step_joules`` are of steps that ran alone in the job.
    ``tier`` is the model tier that the job ran at its end, empty for none.
    """

    energy_joules: float | None = None
    host_joules: float | None = None
    pdu_joules: float | None = None
    estimated_ratio: float | None = None
    shared_ratio: float | None = None
    coverage_ratio: float | None = None
    method: Method | None = None
    run_seconds: float | None = None
    mean_watts: float | None = None
    peak_watts: float | None = None
    lowest_cap_watts: float | None = None
    capped_seconds: float | None = None
    held_seconds: float | None = None
    paused_seconds: float | None = None
    slowdown_ratio: float | None = None
    cost: float | None = None
    cost_basis: CostBasis | None = None
    co2_grams: float | None = None
    step_joules: Mapping[str, float] = field(default_factory=dict)
    steps_left_out: int = 0
    tier: str = ""

    @property
    def is_estimate(self) -> bool:
        """Whether too little was read for its energy to be more than an estimate."""
        return self.energy_joules is not None and (self.coverage_ratio or 0.0) < SURE_RATIO

    def as_json(self) -> dict[str, object]:
        """The object of docs/energy.md, at most ``MOST_BYTES`` long when written without spaces."""
        steps = list(self.step_joules.items())
        while True:
            value = self._object(dict(steps), self.steps_left_out + len(self.step_joules) - len(steps))
            if not steps or len(json.dumps(value, separators=(",", ":"))) <= MOST_BYTES:
                return value
            steps.pop()

    def _object(self, steps: Mapping[str, float], left_out: int) -> dict[str, object]:
        numbers = {key: _rounded(getattr(self, key), digits) for key, digits in _DIGITS.items()}
        words = {"method": self.method, "cost_basis": self.cost_basis}
        value: dict[str, object] = {
            "v": VERSION,
            **{key: number for key, number in numbers.items() if number is not None},
            **{key: word.value for key, word in words.items() if word is not None},
            **({"tier": self.tier} if self.tier else {}),
        }
        if steps:
            value["step_joules"] = {name: round(joules) for name, joules in steps.items()}
        if left_out:
            value["steps_left_out"] = left_out
        return value


# Decimal places in the object: more would tell of the arithmetic, not of the job.
_DIGITS = {
    "energy_joules": 0,
    "host_joules": 0,
    "pdu_joules": 0,
    "estimated_ratio": 4,
    "shared_ratio": 4,
    "coverage_ratio": 4,
    "run_seconds": 0,
    "mean_watts": 1,
    "peak_watts": 1,
    "lowest_cap_watts": 1,
    "capped_seconds": 0,
    "held_seconds": 0,
    "paused_seconds": 0,
    "slowdown_ratio": 4,
    "cost": 6,
    "co2_grams": 1,
}


def _rounded(value: float | None, digits: int) -> float | int | None:
    if value is None:
        return None
    return round(value, digits) if digits else round(value)


def receipt_from_json(value: object) -> Receipt | None:
    """Read a receipt back; None for what is none, or of a version that is not ours to read."""
    if not isinstance(value, Mapping) or value.get("v") != VERSION:
        return None
    steps = value.get("step_joules")
    named = steps.items() if isinstance(steps, Mapping) else ()
    left_out = value.get("steps_left_out")
    return Receipt(
        **{key: _number(value.get(key)) for key in _DIGITS},
        method=next((word for word in Method if word == value.get("method")), None),
        cost_basis=next((word for word in CostBasis if word == value.get("cost_basis")), None),
        step_joules={str(name): number for name, joules in named if (number := _number(joules)) is not None},
        steps_left_out=left_out if isinstance(left_out, int) else 0,
        tier=tier_of(value.get("tier")),
    )


def receipt_of(record: Mapping[str, object]) -> Receipt | None:
    """The receipt of a job that has ended, from what was recorded of it; None where no energy is known."""
    energy, host, pdu = (_number(record.get(key)) for key in ("energy_joules", "host_joules", "pdu_joules"))
    if energy is None and host is None and pdu is None:
        return None
    if pdu is not None and pdu < (energy or 0.0):
        pdu = None  # a PDU is read every few seconds: of a job of some seconds it may know less than that
    run_seconds = _number(record.get("running_seconds"))
    estimated, shared = (_share(record.get(key), energy) for key in ("estimated_joules", "shared_joules"))
    basis, paid_joules = _paid(energy, host, pdu)
    price, carbon = (_mean(record, key, energy) for key in ("priced", "carbon"))
    kwh = None if paid_joules is None else paid_joules / _JOULES_PER_KWH
    cost = None if price is None or kwh is None else price * kwh
    slowed = _number(record.get("slowdown_seconds"))
    return Receipt(
        energy_joules=energy,
        host_joules=host,
        pdu_joules=pdu,
        estimated_ratio=estimated,
        shared_ratio=shared,
        coverage_ratio=_coverage(record),
        method=None if energy is None else _method(estimated, shared),
        run_seconds=run_seconds,
        mean_watts=_number(record.get("mean_watts")),
        peak_watts=_number(record.get("peak_watts")),
        lowest_cap_watts=_number(record.get("lowest_cap_watts")),
        capped_seconds=_number(record.get("capped_seconds")),
        held_seconds=_number(record.get("held_seconds")),
        paused_seconds=_number(record.get("paused_seconds")),
        slowdown_ratio=slowed / run_seconds if slowed is not None and run_seconds else None,
        cost=cost,
        cost_basis=basis if cost is not None else None,
        co2_grams=None if carbon is None or kwh is None else carbon * kwh,
        tier=tier_of(record.get("tier")),
    )


def _method(estimated: float | None, shared: float | None) -> Method:
    if shared:
        return Method.SHARED
    if estimated is None or estimated <= _COUNTER_RATIO:
        return Method.COUNTER
    return Method.POWER if estimated >= 1.0 - _COUNTER_RATIO else Method.MIXED


def _coverage(record: Mapping[str, object]) -> float | None:
    """Readings on the nodes that have told of the job, and the share of its nodes that have."""
    ratio = _number(record.get("energy_coverage_ratio"))
    told, nodes = _number(record.get("energy_node_count")), record.get("nodes")
    if ratio is None or told is None or not isinstance(nodes, list) or not nodes:
        return ratio
    return ratio * min(1.0, told / len(nodes))


def _paid(
    energy: float | None, host: float | None, pdu: float | None
) -> tuple[CostBasis | None, float | None]:
    if pdu is not None:
        return CostBasis.PDU, pdu
    if energy is not None and host is not None:
        return CostBasis.GPUS_AND_HOST, energy + host
    return (None, None) if energy is None else (CostBasis.GPUS, energy)


def _mean(record: Mapping[str, object], kind: str, energy: float | None) -> float | None:
    """The mean rate per kWh, weighted with what the GPUs used at each; None where too much had none."""
    known = _number(record.get(f"{kind}_joules"))
    weighted = _number(record.get(f"{kind}_rate_joules"))
    if known is None or weighted is None or not energy or known < SURE_RATIO * energy:
        return None
    return weighted / known


def _share(part: object, whole: float | None) -> float | None:
    number = _number(part)
    if number is None or whole is None:
        return None
    return min(1.0, max(0.0, number / whole)) if whole > 0.0 else 0.0


def _number(value: object) -> float | None:
    known = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None  # type: ignore[arg-type]  # it is a number, as just seen


@dataclass(frozen=True, slots=True)
class StepTimes:
    """One step of a job: its name within the job, and when it ran, in Unix seconds."""

    name: str
    start_seconds: float
    end_seconds: float


def step_energies(
    points: Iterable[tuple[float, float]], steps: Iterable[StepTimes]
) -> tuple[dict[str, float], int]:
    """What each step used, by the job's energy at moments (Unix seconds, joules), and how many are left out.

    Steps that ran beside each other share what the job used, and nothing tells how: they are left out, as
    are steps of no length, steps outside the known moments, and what comes after ``MOST_STEPS``.
    """
    known = sorted(points)
    listed = sorted(steps, key=lambda step: (step.start_seconds, step.name))
    found: dict[str, float] = {}
    for step in listed:
        beside = any(
            other is not step
            and other.start_seconds < step.end_seconds
            and step.start_seconds < other.end_seconds
            for other in listed
        )
        start, end = (_at(known, moment) for moment in (step.start_seconds, step.end_seconds))
        if beside or start is None or end is None or step.end_seconds <= step.start_seconds:
            continue
        if len(found) < MOST_STEPS:
            found[step.name] = max(0.0, end - start)
    return found, len(listed) - len(found)


def _at(points: list[tuple[float, float]], moment: float) -> float | None:
    """The job's energy at a moment, None outside the known ones (a second or two apart from them counts)."""
    if len(points) < 2 or not points[0][0] - 2.0 <= moment <= points[-1][0] + 2.0:
        return None
    for (before, low), (after, high) in pairwise(points):
        if moment <= after:
            share = (max(moment, before) - before) / (after - before) if after > before else 0.0
            return low + share * (high - low)
    return points[-1][1]
