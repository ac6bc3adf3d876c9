"""From the windows that are wanted and those that are laid to the fewest moves between them. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from slurm_power.model.admission import LaidWindow, LicenceWindow

# Of a lease so much may have run off before it is renewed.
_RENEW_RATIO = 0.4
_TOLERANCE_SECONDS = 1
# An open end that lies further off than it need is brought back when it is more than this.
_LONG_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """Lay ``wanted`` (``laid`` None), make ``laid`` into it, or end ``laid`` (``wanted`` None).

    ``grows``: more is reserved afterwards at some moment. ``renewal``: only a lease is longer, or shorter.
    """

    wanted: LicenceWindow | None
    laid: LaidWindow | None
    grows: bool = False
    renewal: bool = False


def moves(
    wanted: Sequence[LicenceWindow], laid: Sequence[LaidWindow], *, licence: str, now: float
) -> tuple[Move, ...]:
    """What to do, those that grow first; nothing for what is right as it is."""
    pairs = _paired(wanted, laid, licence, now)
    taken = {one.name for _, one in pairs if one is not None}
    found_moves = [Move(wanted=None, laid=one) for one in laid if one.name not in taken]
    for window, one in pairs:
        if one is None:
            found_moves.append(Move(wanted=window, laid=None, grows=True))
            continue
        watts, more = one.licences.get(licence, 0), _end_moves(window, one, now)
        grows = window.watts > watts or window.end > one.end
        grows = grows or (window.start < one.start and not _same_start(window, one, now))
        if watts != window.watts:
            found_moves.append(Move(wanted=window, laid=one, grows=grows))
        elif more or not _same_start(window, one, now):
            renewal = window.open_end and _same_start(window, one, now)
            found_moves.append(Move(wanted=window, laid=one, grows=grows, renewal=renewal))
    return tuple(sorted(found_moves, key=lambda move: not move.grows))


def _paired(
    wanted: Sequence[LicenceWindow], laid: Sequence[LaidWindow], licence: str, now: float
) -> list[tuple[LicenceWindow, LaidWindow | None]]:
    """Each window with the one that is nearest to it among those laid, the nearest pairs first."""
    distances = sorted(
        (
            not _same_start(window, one, now),
            one.licences.get(licence) != window.watts,
            abs(one.end - window.end),
            place,
            number,
        )
        for place, window in enumerate(wanted)
        for number, one in enumerate(laid)
        if _alike(window, one, now)
    )
    found: dict[int, int] = {}
    for *_, place, number in distances:
        if place not in found and number not in found.values():
            found[place] = number
    return [(window, laid[found[place]] if place in found else None) for place, window in enumerate(wanted)]


def _alike(window: LicenceWindow, laid: LaidWindow, now: float) -> bool:
    """Whether one can become the other: both have begun, or neither has."""
    return _begun(laid.start, now) == _begun(window.start, now)


def _begun(start: int, now: float) -> bool:
    return start <= now + _TOLERANCE_SECONDS


def _same_start(window: LicenceWindow, laid: LaidWindow, now: float) -> bool:
    return _begun(laid.start, now) or abs(window.start - laid.start) <= _TOLERANCE_SECONDS


def _end_moves(window: LicenceWindow, laid: LaidWindow, now: float) -> bool:
    if not window.open_end:
        return abs(window.end - laid.end) > _TOLERANCE_SECONDS
    missing = window.end - laid.end
    return missing > _RENEW_RATIO * (window.end - now) or missing < -_LONG_SECONDS
