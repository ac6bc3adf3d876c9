"""Remember what was made from the very same objects a moment ago.

The planner, its records and its answers ask the same of one snapshot many times, and most of a snapshot is
the same objects as in the one before. What is made from frozen values may be kept as long as they are.
"""

from collections.abc import Callable
from operator import is_
from typing import Generic, TypeVar

Made = TypeVar("Made")


class LastFew(Generic[Made]):
    """The last few things made, found by the identity of all they were made from.

    What they were made from is kept alive with them, so that no identity can be given twice.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._kept: tuple[tuple[tuple[object, ...], Made], ...] = ()

    def of(self, make: Callable[[], Made], *sources: object) -> Made:
        """What was made from ``sources``, by ``make`` if it is not known."""
        for known, made in self._kept:
            if all(map(is_, known, sources)):
                return made
        made = make()
        self._kept = ((sources, made), *self._kept[: self._most - 1])
        return made

    def newest(self) -> Made | None:
        """What was made last, as a start for the next of its kind."""
        return self._kept[0][1] if self._kept else None
