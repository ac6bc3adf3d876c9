"""Nouns of admission by the workload manager itself: licences that count watts, and what is kept of them."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenceCount:
    """How many of a licence there are, and how many running jobs have."""

    total: int
    used: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LicenceWindow:
    """So many watts of a licence kept from new jobs, in seconds of the epoch from start to end.

    ``open_end``: nobody knows yet when the need ends; then the end is a lease, and renewed.
    """

    start: int
    end: int
    watts: int
    reason: str = ""
    open_end: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LaidWindow:
    """A reservation as the workload manager has it; licences by name, no others than ours where ``ours``."""

    name: str
    start: int
    end: int
    licences: Mapping[str, int]
    ours: bool
