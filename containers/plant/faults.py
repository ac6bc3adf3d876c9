"""Faults of a front: which are on, with what value, and until when."""

import math
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault that was switched on; ``ends_at_seconds`` is monotonic."""

    value: float
    ends_at_seconds: float


class FaultSet:
    """The faults of one front. Kinds that the front does not know are refused."""

    def __init__(self, kinds: dict[str, str]) -> None:
        self.kinds = kinds
        self._on: dict[str, Fault] = {}

    def set(self, kind: str, value: float, duration_seconds: float | None) -> None:
        """Switch a fault on, for ever when the duration is None; raises ValueError for an unknown kind."""
        if kind not in self.kinds:
            raise ValueError(f"unknown fault {kind!r}; known here: {', '.join(sorted(self.kinds))}")
        until = math.inf if duration_seconds is None else time.monotonic() + duration_seconds
        self._on[kind] = Fault(value=value, ends_at_seconds=until)

    def clear(self, kind: str | None = None) -> None:
        """Switch one fault, or all of them, off."""
        if kind is None:
            self._on.clear()
        else:
            self._on.pop(kind, None)

    def value(self, kind: str) -> float | None:
        """Return the value of a fault that is on, None when it is off."""
        fault = self._on.get(kind)
        if fault is None:
            return None
        if time.monotonic() >= fault.ends_at_seconds:
            del self._on[kind]
            return None
        return fault.value

    def on(self, kind: str) -> bool:
        """Tell whether a fault is on."""
        return self.value(kind) is not None

    def active(self) -> dict[str, float]:
        """Return the faults that are on, with their values."""
        return {kind: value for kind in list(self._on) if (value := self.value(kind)) is not None}
