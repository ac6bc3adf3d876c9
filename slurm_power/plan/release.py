"""Which waiting jobs may start now, under the watts of every circuit and the GPUs that are free.

A knapsack with a row per circuit and one for the GPUs. Sorted by value over a mix of watts and GPUs, filled
from the front, the rest tried in the gaps; the best of a few mixes is kept. A linear program with r rows has
at most r jobs in part, so the right mix comes within r jobs of its optimum: a thousandth, where many wait.

Slurm picks the nodes. A job with planned nodes counts on their circuits. One without counts on every circuit
that has a tenth of all free GPUs or more, with up to twice its even share: on a site of two racks that is all
of it, the worst it could get, while a full rack among hundreds stops nobody. What comes worse than that the
guard's caps meet.
"""

from dataclasses import dataclass

import numpy as np

from slurm_power.plan.job_table import Flags
from slurm_power.plan.site_table import Numbers, SiteTable, Watts, summed

# How much more than its even share of what starts a circuit may get; with less than this it does not count.
_UNEVEN = 2.0
_LEAST_SHARE = 0.2
# Shares of the watts' row against the GPUs' in what a job costs.
_MIXES = (0.0, 1.0, 0.25, 0.75, 0.5)
_COARSE_STEP, _FINEST_STEP = 0.25, 1.0 / 128.0
# So many jobs behind the first that does not fit are tried in the gaps.
_GAP_TRIES = 4000
# Watts and GPUs are sums of many numbers: what is over by rounding alone fits.
_ROUNDING = 1e-9

FREE, SHORT_OF_GPUS, BY_PLAN = -1, -2, -3


@dataclass(frozen=True, slots=True, kw_only=True)
class Budgets:
    """What may be started into, by circuit in the order of the site's table (the grid connection last).

    ``room_watts``: infinite for no bound. ``spare_watts``: what must stay free beside a job that is held now,
    so that none is let go and held again. ``free_gpus``: infinite where nobody knows.
    """

    room_watts: Watts
    spare_watts: Watts
    free_gpus: Watts


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidates:
    """Waiting jobs in the order of the queue, a value per job.

    ``added_watts``: what each of its GPUs adds where it runs. ``must``: it starts whatever we say. ``held``:
    by us, now. ``settled``: free to start for a while; it comes before those that are not, or one would be
    held for another every few seconds. ``deferred``: the day's plan lets it wait. ``share_row``,
    ``share_circuit`` and ``share_watts`` say what jobs with planned nodes (``placed``) add to which circuit;
    ``root_factor`` is what the grid connection sees, at the worst, of a watt at a node.
    """

    value: Watts
    gpus: Watts
    added_watts: Watts
    must: Flags
    held: Flags
    settled: Flags
    deferred: Flags
    placed: Flags
    share_row: Numbers
    share_circuit: Numbers
    share_watts: Watts
    root_factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Who may start, and what is in the way of the others.

    ``binding``, by job: the number of the circuit without room for it, or FREE where nothing is in its way,
    SHORT_OF_GPUS where only GPUs are missing, which is Slurm's to see, BY_PLAN where the day's plan lets it
    wait. ``left_watts`` is what stays free on each circuit, ``value`` is that of all chosen.
    """

    chosen: Flags
    binding: Numbers
    left_watts: Watts
    value: float


def release(table: SiteTable, budgets: Budgets, jobs: Candidates) -> Release:
    """Choose the jobs that may start; those that must come first, as far as there are GPUs for them."""
    rows = _Rows(table, budgets, jobs)
    must = np.flatnonzero(jobs.must)
    # Only what gets GPUs starts: the rest of those that must is no load yet.
    rows.take(must[np.cumsum(jobs.gpus[must]) <= rows.left_gpus + _ROUNDING], worst=False)
    chosen = jobs.must.copy()
    for group in (jobs.settled, ~jobs.settled):
        best = rows.best(np.flatnonzero(group & ~jobs.must & ~jobs.deferred))
        rows.take(best)
        chosen[best] = True
    binding = np.full(len(jobs.value), FREE, dtype=np.int64)
    left = np.flatnonzero(~chosen)
    binding[left] = rows.binding(left)
    binding[jobs.deferred & ~jobs.must] = BY_PLAN
    return Release(
        chosen=chosen, binding=binding, left_watts=rows.left_watts, value=float(jobs.value[best].sum())
    )


class _Rows:
    """The rows of the knapsack and what is left of each."""

    def __init__(self, table: SiteTable, budgets: Budgets, jobs: Candidates) -> None:
        self._root = table.root
        self._jobs = jobs
        self._spare = budgets.spare_watts
        self.left_watts = budgets.room_watts.copy()
        self.left_gpus = float(budgets.free_gpus[self._root])
        self._root_watts = jobs.gpus * jobs.added_watts * jobs.root_factor
        by_row = np.argsort(jobs.share_row, kind="stable")
        self._share_row = jobs.share_row[by_row]
        self._share_circuit = jobs.share_circuit[by_row]
        self._share_watts = jobs.share_watts[by_row]
        self._risky, self._risky_share, self._risky_most = self._short(table, budgets)
        at_root = self._share_circuit == self._root
        self._root_watts[self._share_row[at_root]] = self._share_watts[at_root]

    def _short(self, table: SiteTable, budgets: Budgets) -> tuple[Numbers, Watts, Watts]:
        """The circuits that jobs without planned nodes could overload.

        With what each may see of a watt that starts somewhere, and the most it may see of all that can start.
        """
        unplaced = self._jobs.added_watts[~self._jobs.placed]
        free = budgets.free_gpus
        if not len(unplaced) or not 0.0 < free[self._root] < np.inf:
            return np.empty(0, dtype=np.int64), np.empty(0), np.empty(0)
        # The losses between a circuit and the nodes below it, at the worst.
        factor = np.ones(len(table.names))
        known = table.paths >= 0
        np.maximum.at(factor, table.paths[known], table.factors[known])
        share = np.minimum(1.0, _UNEVEN * free / free[self._root])
        most_watts = free * float(unplaced.max()) * factor
        short = (free > 0.0) & (budgets.room_watts < most_watts)
        short &= share >= _LEAST_SHARE
        short[self._root] = False
        found = np.flatnonzero(short)
        return found, (share * factor)[found], most_watts[found]

    def best(self, rows: Numbers) -> Numbers:
        """Those of ``rows`` to start: the best of the mixes, then of those ever closer around it.

        Where only GPUs, or only watts, keep the others from starting, the mix for these alone is the best.
        """
        found: dict[float, Numbers] = {}
        values: dict[float, float] = {}
        for mix in _MIXES:
            found[mix] = self.filled(rows, mix)
            values[mix] = float(self._jobs.value[found[mix]].sum())
            if self._only(mix, rows, found[mix]):
                return found[mix]
        best = max(_MIXES, key=lambda mix: values[mix])
        step = _COARSE_STEP
        while step > _FINEST_STEP:
            step /= 2.0
            for mix in (best - step, best + step):
                if 0.0 <= mix <= 1.0 and mix not in found:
                    found[mix] = self.filled(rows, mix)
                    values[mix] = float(self._jobs.value[found[mix]].sum())
            best = max(found, key=lambda mix: values[mix])
        return found[best]

    def _only(self, mix: float, rows: Numbers, chosen: Numbers) -> bool:
        """Whether everything fits, or all that does not is kept out by the one row that ``mix`` counts."""
        if len(chosen) == len(rows):
            return True
        jobs = self._jobs
        if mix == 0.0:
            left = self.left_watts - self._taken(chosen)
            circuits = np.union1d(np.append(self._share_circuit, self._root), self._risky)
            return bool((left[circuits] >= float(self._root_watts[rows].max())).all())
        if mix == 1.0:
            left_gpus = self.left_gpus - float(jobs.gpus[chosen].sum())
            return left_gpus >= float(jobs.gpus[rows].max())
        return False

    def worth(self, rows: Numbers, mix: float) -> Watts:
        """The value of each job for what it takes of the rows."""
        jobs = self._jobs
        root = max(float(self.left_watts[self._root]), 1.0)
        watts = self._root_watts[rows] / root if np.isfinite(root) else np.zeros(len(rows))
        gpus = jobs.gpus[rows] / max(self.left_gpus, 1.0) if np.isfinite(self.left_gpus) else watts
        tight = np.zeros(len(jobs.value))
        if len(self._share_row):
            part = self._share_watts / np.maximum(self.left_watts[self._share_circuit], 1.0)
            np.maximum.at(tight, self._share_row, part)
        cost = np.maximum(mix * watts + (1.0 - mix) * gpus, mix * tight[rows])
        return jobs.value[rows] / np.maximum(cost, 1e-12)

    def filled(self, rows: Numbers, mix: float) -> Numbers:
        """Those of ``rows`` that fit together, the best for that mix first; then what fits in the gaps."""
        jobs = self._jobs
        order = rows[np.argsort(-self.worth(rows, mix), kind="stable")]
        root_watts, gpus = self._root_watts[order], jobs.gpus[order]
        spare = np.where(jobs.held[order], self._spare[self._root], 0.0)
        fits = np.cumsum(root_watts) + spare <= self.left_watts[self._root] + _ROUNDING
        fits &= np.cumsum(gpus) <= self.left_gpus + _ROUNDING
        count = len(order) if fits.all() else int(np.argmin(fits))
        count = self._fitting(order, count)
        left = self.left_watts - self._taken(order[:count])
        left_gpus = self.left_gpus - float(gpus[:count].sum())
        found = order[:count].tolist()
        tail = order[count : count + _GAP_TRIES]
        small = (self._root_watts[tail] <= left[self._root] + _ROUNDING) & (jobs.gpus[tail] <= left_gpus)
        left_root = float(left[self._root])
        tail = tail[small]
        tries = zip(tail.tolist(), jobs.gpus[tail].tolist(), self._root_watts[tail].tolist(), strict=True)
        for row, wanted_gpus, wanted_watts in tries:
            if wanted_gpus > left_gpus + _ROUNDING or wanted_watts > left_root + _ROUNDING:
                continue
            circuits, watts = self._needs(row)
            spare_watts = self._spare[circuits] if jobs.held[row] else 0.0
            if (watts + spare_watts <= left[circuits] + _ROUNDING).all():
                left[circuits] -= watts
                left_root -= wanted_watts
                left_gpus -= wanted_gpus
                found.append(row)
        return np.array(found, dtype=np.int64)

    def _fitting(self, order: Numbers, most: int) -> int:
        """How many of the first ``most`` of ``order`` fit on all circuits beside the grid connection."""
        if not len(self._share_row) and not len(self._risky):
            return most
        low, high, middle = 0, most, most
        while low < high:
            rows = order[:middle]
            taken = self._taken(rows)
            held = self._spare if self._jobs.held[rows].any() else 0.0
            beside = taken > 0.0
            beside[self._root] = False
            if (taken + held <= self.left_watts + _ROUNDING)[beside].all():
                low = middle
            else:
                high = middle - 1
            middle = (low + high + 1) // 2
        return low

    def _taken(self, rows: Numbers, *, worst: bool = True) -> Watts:
        """What some jobs add to each circuit together."""
        jobs, count = self._jobs, len(self.left_watts)
        taken = np.zeros(count)
        taken[self._root] = self._root_watts[rows].sum()
        inside = np.zeros(len(jobs.value), dtype=bool)
        inside[rows] = True
        here = inside[self._share_row] & (self._share_circuit != self._root)
        taken += summed(self._share_circuit[here], self._share_watts[here], count)
        if len(self._risky):
            free = rows[~jobs.placed[rows]]
            watts = float(jobs.gpus[free] @ jobs.added_watts[free]) * (1.0 if worst else 1.0 / _UNEVEN)
            taken[self._risky] += np.minimum(watts * self._risky_share, self._risky_most)
        return taken

    def _needs(self, row: int) -> tuple[Numbers, Watts]:
        """The circuits one job counts on, and with how much."""
        jobs = self._jobs
        root = np.array([self._root])
        if jobs.placed[row]:
            begin, end = np.searchsorted(self._share_row, [row, row + 1])
            circuits, watts = self._share_circuit[begin:end], self._share_watts[begin:end]
        else:
            circuits = self._risky
            watts = np.minimum(jobs.gpus[row] * jobs.added_watts[row] * self._risky_share, self._risky_most)
        away = circuits != self._root
        return np.append(circuits[away], root), np.append(watts[away], self._root_watts[row])

    def take(self, rows: Numbers, *, worst: bool = True) -> None:
        """Count some jobs as started."""
        self.left_watts = self.left_watts - self._taken(rows, worst=worst)
        self.left_gpus -= float(self._jobs.gpus[rows].sum())

    def binding(self, rows: Numbers) -> Numbers:
        """For each job that was not chosen: the first circuit that has no room for it even by itself."""
        jobs, left = self._jobs, self.left_watts
        found = np.full(len(jobs.value), SHORT_OF_GPUS, dtype=np.int64)
        spare = np.where(jobs.held[self._share_row], self._spare[self._share_circuit], 0.0)
        over = self._share_watts + spare > left[self._share_circuit] + _ROUNDING
        found[self._share_row[over][::-1]] = self._share_circuit[over][::-1]
        free = rows[~jobs.placed[rows]]
        for held in (False, True) if len(self._risky) else ():
            room = left[self._risky] - (self._spare[self._risky] if held else 0.0)
            tightest = int(np.argmin(room / self._risky_share))
            these = free[jobs.held[free] == held]
            watts = jobs.gpus[these] * jobs.added_watts[these] * self._risky_share[tightest]
            found[these[watts > room[tightest] + _ROUNDING]] = self._risky[tightest]
        root = self._root
        spare = np.where(jobs.held[rows], self._spare[root], 0.0)
        over = self._root_watts[rows] + spare > left[root] + _ROUNDING
        found[rows[over]] = root
        return found[rows]
