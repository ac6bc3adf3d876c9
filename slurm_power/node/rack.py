"""The rack's PDU as the controller tells of it, and this node's part of what it shows."""

import math
from dataclasses import dataclass
from typing import Any

from slurm_power.model.reading import Quality
from slurm_power.wire import Message, WireError

# The controller tells every five seconds; what is older says nothing any more.
MAX_AGE_SECONDS = 15.0
MAX_NAME = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class RackReading:
    """A circuit's power. ``share_ratio`` is this node's part of it, by what the GPUs on the circuit draw."""

    circuit: str
    watts: float | None
    quality: Quality
    age_seconds: float
    share_ratio: float | None

    def node_watts(self) -> float | None:
        """This node's part in watts; None where the reading is no good one."""
        if self.quality is not Quality.GOOD or self.watts is None or self.share_ratio is None:
            return None
        return self.watts * self.share_ratio


class Rack:
    """The last word about the rack; times are monotonic seconds."""

    def __init__(self) -> None:
        self._reading: RackReading | None = None
        self._at_seconds = -math.inf

    def take(self, message: Message, now_seconds: float) -> None:
        """Take the controller's word; raises WireError with what is wrong."""
        self._reading = rack_of(message)
        self._at_seconds = now_seconds - self._reading.age_seconds

    def node_watts(self, now_seconds: float) -> float | None:
        """What of the rack's power this node draws now; None when that is not known."""
        if self._reading is None or now_seconds - self._at_seconds > MAX_AGE_SECONDS:
            return None
        return self._reading.node_watts()

    def message(self, now_seconds: float) -> Message | None:
        """The reading as users see it, with its age now."""
        reading = self._reading
        if reading is None:
            return None
        return {
            "circuit": reading.circuit,
            "watts": reading.watts,
            "quality": str(reading.quality),
            "age_seconds": now_seconds - self._at_seconds,
            "share_ratio": reading.share_ratio,
        }


def rack_of(message: Message) -> RackReading:
    """The reading in a message; raises WireError."""
    circuit = message.get("circuit")
    if not isinstance(circuit, str) or not 0 < len(circuit) <= MAX_NAME or not circuit.isprintable():
        raise WireError("circuit: not a name")
    try:
        quality = Quality(str(message.get("quality")))
    except ValueError:
        raise WireError(f"quality: {message.get('quality')!r} is none of {', '.join(Quality)}") from None
    age_seconds, share_ratio = _number(message, "age_seconds"), _number(message, "share_ratio")
    if age_seconds is None or age_seconds < 0.0:
        raise WireError("age_seconds: not a number from 0 on")
    if share_ratio is not None and not 0.0 <= share_ratio <= 1.0:
        raise WireError(f"share_ratio: {share_ratio:g} is not between 0 and 1")
    return RackReading(
        circuit=circuit,
        watts=_number(message, "watts"),
        quality=quality,
        age_seconds=age_seconds,
        share_ratio=share_ratio,
    )


def _number(message: Message, key: str) -> float | None:
    value: Any = message.get(key)
    if value is None:
        return None
    if type(value) not in (int, float) or not math.isfinite(value):
        raise WireError(f"{key}: {value!r} is no number")
    return float(value)
