"""Readings and how far they can be trusted."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple


class Quality(StrEnum):
    """How far a reading can be trusted; only GOOD and QUESTIONABLE readings carry a usable value."""

    GOOD = "good"
    QUESTIONABLE = "questionable"
    INVALID = "invalid"


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerReading:
    """One circuit's power as seen by one source.

    ``watts`` is positive towards the loads (import). ``None`` means that the source said nothing usable;
    ``quality`` is then INVALID and ``reason`` says why. ``estimated``: put together from what the circuit
    feeds, enough to see that it is too much, not enough to prove that there is room.
    """

    source: str
    watts: float | None
    age_seconds: float
    quality: Quality
    reason: str = ""
    estimated: bool = False

    def known_watts(self) -> float | None:
        """Return the watts if they may be used for control, else None."""
        return None if self.quality is Quality.INVALID else self.watts


def judged(source: str, watts: float | None, age_seconds: float, max_age_seconds: float) -> PowerReading:
    """Grade a reading by its age: a late one is questionable, one older than twice the bound is invalid."""
    if watts is None:
        return PowerReading(
            source=source, watts=None, age_seconds=age_seconds, quality=Quality.INVALID, reason="no reading"
        )
    if age_seconds > 2 * max_age_seconds:
        quality, reason = Quality.INVALID, f"stale for {age_seconds:.1f} s"
    elif age_seconds > max_age_seconds:
        quality, reason = Quality.QUESTIONABLE, f"late by {age_seconds - max_age_seconds:.1f} s"
    else:
        quality, reason = Quality.GOOD, ""
    return PowerReading(source=source, watts=watts, age_seconds=age_seconds, quality=quality, reason=reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class EssReading:
    """State of one energy storage system behind its PCS.

    ``discharge_watts`` is positive when the battery feeds the site, negative when it charges.
    ``max_charge_watts`` and ``max_discharge_watts`` are what the device can do now, both >= 0.
    ``remote`` is False while somebody operates the device locally: then nobody else may command it.
    ``trusted`` is False for a device that was not commissioned. ``temperature_celsius`` is the battery's
    hottest part that is measured, None where nobody says.
    """

    name: str
    discharge_watts: float
    soc_ratio: float
    soh_ratio: float
    energy_rating_kwh: float
    max_charge_watts: float
    max_discharge_watts: float
    remote: bool
    alarms: tuple[str, ...]
    age_seconds: float
    quality: Quality
    trusted: bool = True
    temperature_celsius: float | None = None

    def usable(self) -> bool:
        """Whether the planner may command this device now."""
        return self.trusted and self.quality is not Quality.INVALID and self.remote and not self.alarms


# No battery that still works is colder or hotter: such a value is a sensor that is broken or not there.
_COLDEST_CELSIUS, _HOTTEST_CELSIUS = -60.0, 150.0


def believable_celsius(celsius: float | None) -> float | None:
    """A battery's temperature as its device says it; None where it says nothing, or what cannot be."""
    if celsius is None or not _COLDEST_CELSIUS <= celsius <= _HOTTEST_CELSIUS:
        return None
    return celsius


# New cells may have a little more than their rating; 0 is what devices say that do not compute it.
_MOST_SOH_RATIO = 1.2


def believable_soh(soh_ratio: float | None) -> float | None:
    """A battery's health as its device says it, at most 1; None where it says nothing, or what cannot be."""
    if soh_ratio is None or not 0.0 < soh_ratio <= _MOST_SOH_RATIO:
        return None
    return min(1.0, soh_ratio)


@dataclass(frozen=True, slots=True, kw_only=True)
class CapReading:
    """A GPU's power limit: as last written by anybody, and as in force (lower where a BMC clamps it)."""

    requested_watts: float
    enforced_watts: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One GPU as its node daemon read it. What is optional is ``None`` where the driver does not say.

    ``power_watts`` is the mean over a second where there is one, else the instant. ``energy_joules`` is the
    driver's counter as last read, seldomer than the rest: it restarts at 0 when the driver reloads.
    ``throttle_reasons`` are `THROTTLE_WORDS`, ``throttle_seconds`` says how long each has held so far.
    ``mig_uuids`` are the instances a GPU in MIG mode is cut into; power, caps and energy are the whole GPU's.
    """

    uuid: str
    slot: int
    name: str
    power_watts: float
    energy_joules: float | None
    utilization_ratio: float
    sm_clock_hertz: float
    temperature_celsius: float
    requested_cap_watts: float
    enforced_cap_watts: float
    default_cap_watts: float
    min_cap_watts: float
    max_cap_watts: float
    power_average_watts: float | None = None
    power_instant_watts: float | None = None
    memory_clock_hertz: float | None = None
    throttle_reasons: tuple[str, ...] | None = None
    throttle_seconds: dict[str, float] | None = None
    mig_enabled: bool | None = None
    mig_uuids: tuple[str, ...] = ()
    error: str = ""


class GpuSums(NamedTuple):
    """Some GPUs of one node together; all numbers, so that many of them make a table.

    ``lost`` is 1.0 where one of them does not answer or is not reported, ``parted`` where one is in MIG mode.
    The bounds are those that hold for each: the least default cap, the highest lowest cap.
    """

    found: float = 0.0
    power_watts: float = 0.0
    busiest_watts: float = -math.inf
    default_cap_watts: float = math.inf
    min_cap_watts: float = -math.inf
    parted: float = 0.0
    lost: float = 0.0


def gpu_sums(gpus: Mapping[str, GpuReading], uuids: tuple[str, ...]) -> GpuSums:
    """What the GPUs ``uuids`` draw together, as far as they are among those reported."""
    there = [gpus[uuid] for uuid in uuids if uuid in gpus]
    if not there:
        return GpuSums(lost=float(bool(uuids)))
    watts = [gpu.power_watts for gpu in there]
    odd = [gpu for gpu in there if gpu.error or gpu.mig_enabled]
    return GpuSums(
        float(len(there)),
        sum(watts),
        max(watts),
        min([gpu.default_cap_watts for gpu in there]),
        max([gpu.min_cap_watts for gpu in there]),
        float(any(gpu.mig_enabled for gpu in odd)),
        float(len(there) < len(uuids) or any(gpu.error for gpu in odd)),
    )


class NodeDraw(NamedTuple):
    """One node's report in sums: all GPUs that answer, those among them that jobs have, and the host.

    ``host_watts`` is None where that is not measured.
    """

    gpu_watts: float
    held_watts: float
    host_watts: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class HostReading:
    """A node without its GPUs. What is not measured here is ``None``.

    ``energy_joules`` counts from powerd's start. ``source`` is ``rapl`` (packages and memory), ``hwmon``
    (what the board's sensor sees) or empty, and ``error`` then says why.
    """

    watts: float | None
    energy_joules: float | None
    source: str
    cpu_utilization_ratio: float | None
    memory_used_ratio: float | None
    load_average: float | None
    error: str = ""


# Why a GPU runs slower than it could.
THROTTLE_WORDS = (
    "idle",
    "clock setting",
    "power cap",
    "hardware slowdown",
    "sync boost",
    "software thermal",
    "hardware thermal",
    "power brake",
    "display clock",
)
