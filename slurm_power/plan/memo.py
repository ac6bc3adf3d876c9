"""Remember what was made from the very same objects a moment ago.

The planner, its records and its answers ask the same of one snapshot many times, and most of a snapshot is
the same objects as in the one before. What is made from frozen values may be kept as long as they are.
"""

from collections.abc import Callable
from operator import is_
from typing import Any, ClassVar, Generic, TypeVar

Made = TypeVar("Made")


class LastFew(Generic[Made]):
    """The last few things made, found by the identity of all they were made from.

    What they were made from is kept alive with them, so that no identity can be given twice.
    """

    _passing: ClassVar[list["LastFew[Any]"]] = []

    def __init__(self, most: int, *, passing: bool = False) -> None:
        """``passing``: made from what is over in a second, and let go by `let_go_of_old`."""
        self._most = most
        self._kept: tuple[tuple[tuple[object, ...], Made], ...] = ()
        if passing:
            self._passing.append(self)

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

    @classmethod
    def let_go_of_old(cls) -> None:
        """Keep only the newest of all that was made from passing things.

        A large site's snapshot takes some milliseconds to free: better between two cycles than in one.
        """
        for memory in cls._passing:
            memory._kept = memory._kept[:1]
