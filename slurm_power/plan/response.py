"""What a job answers to a cap: from a measured curve to watts and performance, and to concave pieces of both.

A curve says what one GPU draws and does under each measured cap; between two of them both are interpolated
linearly. A paused GPU draws ``PAUSED_GPU_WATTS`` and does nothing. All GPUs of a job that run have one cap,
since in a synchronous job the slowest sets the pace; a job may run on fewer of its GPUs, in whole ones:
those are its steady settings. A job may also change between two settings by the clock: its mixed settings,
which reach everything on the concave envelope of its points.
"""

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from slurm_power.plan.allocation import upper_hull

PAUSED_GPU_WATTS = 85.0
_TINY = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class CapCurve:
    """Draw and performance of one GPU by its cap, the caps rising; performance is 1 at the highest cap.

    Raises ValueError where the tuples are empty, of unequal length, or the caps do not rise.
    """

    caps_watts: tuple[float, ...]
    gpu_watts: tuple[float, ...]
    performance_ratios: tuple[float, ...]

    def __post_init__(self) -> None:
        if not 0 < len(self.caps_watts) == len(self.gpu_watts) == len(self.performance_ratios):
            raise ValueError("a curve needs a draw and a performance for each of at least one cap")
        if any(low >= high for low, high in zip(self.caps_watts, self.caps_watts[1:], strict=False)):
            raise ValueError("the caps of a curve have to rise")

    @property
    def uncapped_watts(self) -> float:
        """What a GPU draws under the highest cap."""
        return self.gpu_watts[-1]

    def at_cap(self, cap_watts: float) -> tuple[float, float]:
        """Watts and performance of a GPU under a cap, linear in between, flat beyond both ends."""
        caps = self.caps_watts
        above = bisect_right(caps, cap_watts)
        if above == 0 or above == len(caps):
            end = 0 if above == 0 else -1
            return self.gpu_watts[end], self.performance_ratios[end]
        share = (cap_watts - caps[above - 1]) / (caps[above] - caps[above - 1])
        return (
            _between(self.gpu_watts[above - 1], self.gpu_watts[above], share),
            _between(self.performance_ratios[above - 1], self.performance_ratios[above], share),
        )


@dataclass(frozen=True, slots=True)
class Setting:
    """How a job runs: ``gpu_watts`` and ``performance_ratio`` are means over all its GPUs, paused ones too.

    ``cap_watts`` is that of the GPUs that run. ``alternates`` is True for a mixed setting: the figures are
    then means over time, ``cap_watts`` over the time that GPUs run, and ``paused_gpus`` is no whole number.
    """

    gpu_watts: float
    performance_ratio: float
    cap_watts: float
    paused_gpus: float = 0.0
    alternates: bool = False


Piece = tuple[Setting, ...]


@dataclass(frozen=True, kw_only=True)
class Response:
    """One job's choice: a curve, how many GPUs, and the least performance it was promised.

    Raises ValueError where not even the highest cap keeps the promise.
    """

    curve: CapCurve
    gpus: int
    floor_ratio: float
    paused_gpu_watts: float = PAUSED_GPU_WATTS

    def __post_init__(self) -> None:
        if self.floor_ratio > self.curve.performance_ratios[-1] + _TINY:
            raise ValueError(f"a floor of {self.floor_ratio:g} is above the performance at the highest cap")

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """Every way to run above the floor, as concave stretches of rising watts and performance.

        The first ones run on as few GPUs as the floor allows, then comes the way from there to all GPUs, then
        the curve itself, by rising caps. Between two neighbours in a piece everything in between can be had
        (of paused GPUs only whole ones: see ``at_watts``).
        """
        running = _concave(_above(self._path(0), self.floor_ratio))
        edge = self._pause_edge()
        most = int(self.gpus * (1.0 - self.floor_ratio / edge.performance_ratio) + _TINY) if edge else 0
        if edge is None or most < 1:
            return running
        fewest = [point for point in self._path(most) if point.cap_watts <= edge.cap_watts]
        return (*_concave(_above(fewest, self.floor_ratio)), (fewest[-1], edge), *running)

    @cached_property
    def envelope(self) -> Piece:
        """The concave envelope of the measured points and of the pause, from the floor upwards.

        Everything on it can be had by changing between two settings (``mixed_at_watts``), nothing above it.
        """
        return tuple(_above(self._edge, self.floor_ratio)[-1])

    def mixed_at_watts(self, gpu_watts: float) -> Setting:
        """The point of the envelope at ``gpu_watts`` a GPU, or the nearer end."""
        edge = self._edge
        watts = min(max(gpu_watts, self.envelope[0].gpu_watts), edge[-1].gpu_watts)
        above = next(index for index, point in enumerate(edge) if point.gpu_watts >= watts - _TINY)
        low, high = edge[max(0, above - 1)], edge[above]
        if high.gpu_watts - watts <= _TINY:
            return high
        return self._mixed(low, high, (watts - low.gpu_watts) / (high.gpu_watts - low.gpu_watts))

    def at_watts(self, gpu_watts: float) -> Setting:
        """The most performance for at most ``gpu_watts`` a GPU; the lowest draw if that is too little.

        The draw is as asked, or less where no cap reaches it: a cap that changes nothing, or half a GPU
        that cannot be paused.
        """
        found = [setting for piece in self.pieces for setting in self._within(piece, gpu_watts)]
        if not found:
            return min((piece[0] for piece in self.pieces), key=lambda point: point.gpu_watts)
        return max(found, key=lambda point: (point.performance_ratio, -point.gpu_watts))

    def uncapped(self) -> Setting:
        """All GPUs under the highest cap."""
        return self.setting(self.curve.caps_watts[-1])

    def setting(self, cap_watts: float, paused_gpus: float = 0.0) -> Setting:
        """All but ``paused_gpus`` GPUs under one cap."""
        watts, performance = self.curve.at_cap(cap_watts)
        paused = paused_gpus / self.gpus
        return Setting(
            _between(watts, self.paused_gpu_watts, paused),
            performance * (1.0 - paused),
            cap_watts,
            paused_gpus,
        )

    @cached_property
    def _edge(self) -> Piece:
        paused = Setting(self.paused_gpu_watts, 0.0, self.curve.caps_watts[0], self.gpus)
        points = {(one.gpu_watts, one.performance_ratio): one for one in (paused, *self._path(0))}
        return tuple(points[point] for point in upper_hull(list(points)))

    def _mixed(self, low: Setting, high: Setting, share: float) -> Setting:
        """``share`` of the time at one setting, the rest at another."""
        caps = self.curve.caps_watts
        joined = {low.cap_watts, high.cap_watts} == {
            cap for cap in caps if low.cap_watts <= cap <= high.cap_watts
        }
        if joined and not low.paused_gpus:
            return self.setting(_between(low.cap_watts, high.cap_watts, share))
        # While it is paused a GPU has no cap that counts.
        cap_watts = high.cap_watts if low.paused_gpus else _between(low.cap_watts, high.cap_watts, share)
        return Setting(
            _between(low.gpu_watts, high.gpu_watts, share),
            _between(low.performance_ratio, high.performance_ratio, share),
            cap_watts,
            _between(low.paused_gpus, high.paused_gpus, share),
            alternates=True,
        )

    def _path(self, paused_gpus: float) -> list[Setting]:
        return [self.setting(cap, paused_gpus) for cap in self.curve.caps_watts]

    def _pause_edge(self) -> Setting | None:
        """Where pausing is cheapest: the measured point with the most performance per watt above pause."""
        edges = [
            point
            for point in self._path(0)
            if point.gpu_watts > self.paused_gpu_watts + _TINY and point.performance_ratio > 0.0
        ]
        if not edges:
            return None
        return max(
            edges, key=lambda point: point.performance_ratio / (point.gpu_watts - self.paused_gpu_watts)
        )

    def _within(self, piece: Piece, gpu_watts: float) -> list[Setting]:
        """What a piece offers for at most ``gpu_watts``: nothing, or its best."""
        if piece[0].gpu_watts > gpu_watts + _TINY:
            return []
        if piece[-1].gpu_watts <= gpu_watts + _TINY:
            return [piece[-1]]
        above = next(index for index, point in enumerate(piece) if point.gpu_watts > gpu_watts) or 1
        low, high = piece[above - 1], piece[above]
        share = max(0.0, (gpu_watts - low.gpu_watts) / (high.gpu_watts - low.gpu_watts))
        if low.paused_gpus == high.paused_gpus:
            return [self.setting(_between(low.cap_watts, high.cap_watts, share), low.paused_gpus)]
        return self._whole_gpus(high, low.paused_gpus * (1.0 - share), gpu_watts)

    def _whole_gpus(self, edge: Setting, paused: float, gpu_watts: float) -> list[Setting]:
        """Some GPUs paused, in whole ones: one too many, or too few and the others under a lower cap."""
        found = [self.setting(edge.cap_watts, math.ceil(paused - _TINY))]
        fewer = math.floor(paused)
        lower = [point for point in self._path(fewer) if point.cap_watts <= edge.cap_watts]
        for low, high in pairwise(lower):
            if low.gpu_watts <= gpu_watts < high.gpu_watts:
                share = (gpu_watts - low.gpu_watts) / (high.gpu_watts - low.gpu_watts)
                found.append(self.setting(_between(low.cap_watts, high.cap_watts, share), fewer))
        return [point for point in found if point.performance_ratio >= self.floor_ratio - _TINY]


def _between(low: float, high: float, share: float) -> float:
    return low + (high - low) * share


def _above(path: Sequence[Setting], floor_ratio: float) -> list[list[Setting]]:
    """The stretches of a path that keep the floor, with the points where it crosses it."""
    stretches: list[list[Setting]] = [[]]
    before: Setting | None = None
    for point in path:
        if before is not None and (
            before.performance_ratio < floor_ratio < point.performance_ratio
            or before.performance_ratio > floor_ratio > point.performance_ratio
        ):
            stretches[-1].append(_crossing(before, point, floor_ratio))
        if point.performance_ratio >= floor_ratio:
            stretches[-1].append(point)
        elif stretches[-1]:
            stretches.append([])
        before = point
    return [stretch for stretch in stretches if stretch]


def _crossing(before: Setting, after: Setting, floor_ratio: float) -> Setting:
    share = (floor_ratio - before.performance_ratio) / (after.performance_ratio - before.performance_ratio)
    return Setting(
        _between(before.gpu_watts, after.gpu_watts, share),
        floor_ratio,
        _between(before.cap_watts, after.cap_watts, share),
        before.paused_gpus,
    )


def _concave(stretches: Sequence[Sequence[Setting]]) -> tuple[Piece, ...]:
    """Cut stretches wherever watts or performance fall, or performance rises faster than before."""
    pieces: list[Piece] = []
    for stretch in stretches:
        piece = [stretch[0]]
        for point in stretch[1:]:
            last = piece[-1]
            rises = (
                point.gpu_watts > last.gpu_watts + _TINY
                and point.performance_ratio > last.performance_ratio + _TINY
            )
            if rises and (len(piece) == 1 or _slope(last, point) <= _slope(piece[-2], last) + _TINY):
                piece.append(point)
                continue
            pieces.append(tuple(piece))
            piece = [last, point] if rises else [point]
        pieces.append(tuple(piece))
    return tuple(pieces)


def _slope(low: Setting, high: Setting) -> float:
    return (high.performance_ratio - low.performance_ratio) / (high.gpu_watts - low.gpu_watts)
