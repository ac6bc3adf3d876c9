"""Take a needed reduction where it costs least, inside what was promised; give it back the other way round.

All GPUs of one job get the same cap: in a synchronous job the slowest GPU sets the pace, so an uneven
cap would cost the performance of all for the watts of some. Each job's curve is a row of segments, each
dearer per watt than the one before it, so the cheapest segments of all jobs together, taken until the
circuit's demand is met, are the optimum but for the one segment that is taken in part (min-knapsack).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from slurm_power.model.action import SetCap
from slurm_power.model.job import Flex, Job
from slurm_power.model.jobs_level import JobsLevel
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import LimitEvent, Snapshot
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.cap_columns import Bools, CapColumns, Floats, Ints, stepped
from slurm_power.plan.cap_release import given_back
from slurm_power.plan.clocks import lock_hertz_for
from slurm_power.plan.loads import LoadTable
from slurm_power.plan.policy import Policy
from slurm_power.plan.promises import deadline_words

# Prices that differ by less than this are the same: among them the levers go round the users, whoever draws
# a watt more.
_SAME_PRICE_RATIO = 0.02
_FREE = 1e-12
_LEAST_MOVE_WATTS = 1.0
# The grid meter's readings come a second apart.
_READING_SECONDS = 1.0
# Expected slowdowns are compared with promises: they may meet exactly.
_EXACT = 1e-6
_FLEX_TEXTS = {flex: f"{flex.value} allows up to {flex.max_slowdown_ratio:.0%} slowdown" for flex in Flex}
# Of one or two users somebody always carries half or more.
_FEWEST_USERS_TO_SHARE = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """What one circuit still needs: ``watts`` > 0 must be shed, < 0 is room that may be given back.

    ``overload_watts`` is by how much it is above its limit for good, not by estimate and not for a moment:
    only this may take more from a job than was promised, and only for a safety limit. ``level``: it is no
    limit but a level for money, which takes no more than is worth it.
    """

    circuit: str
    watts: float
    kind: LimitKind
    overload_watts: float = 0.0
    level: JobsLevel | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapResult:
    """The caps to set, what they save per circuit, and what no cap could save (> 0) per circuit."""

    actions: tuple[SetCap, ...]
    unmet_watts: Mapping[str, float]


def plan_caps(snapshot: Snapshot, table: LoadTable, demands: Sequence[Demand], policy: Policy) -> CapResult:
    """Turn the circuits' demands into caps on the jobs of ``table``.

    ``demands`` come with the leaves of the tree first, and a level for money after all limits.

    Caps are lowered at once, counting in what the last change has not yet shown at the meter; they are
    raised only where every circuit on the job's path has room, and not before their dwell.
    """
    wanted = [demand for demand in demands if demand.watts > 0.0]
    if not table.placed.jobs or (not wanted and not snapshot.caps):
        unmet = {demand.circuit: demand.watts for demand in wanted if demand.level is None}
        return CapResult(actions=(), unmet_watts=unmet)
    columns, safety = CapColumns(snapshot, table, policy), LimitKind.SAFETY
    lowering, unmet = choose(snapshot, columns, wanted, policy)
    raised = given_back(
        columns,
        room={demand.circuit: -demand.watts for demand in demands if demand.level is None},
        level_room={demand.circuit: -demand.watts for demand in demands if demand.level is not None},
        safe={demand.circuit for demand in demands if demand.kind is safety},
        lowered=lowering.lowered,
        policy=policy,
    )
    return CapResult(actions=(*lowering.actions(), *raised), unmet_watts=unmet)


def choose(
    snapshot: Snapshot, columns: CapColumns, demands: Sequence[Demand], policy: Policy
) -> tuple["Lowering", dict[str, float]]:
    """Choose the caps that meet the demands (all of them > 0); return them, and what is unmet by circuit."""
    lowering = Lowering(snapshot, columns, demands, policy)
    left = {}
    for demand in demands:
        unmet_watts = lowering.meet(demand)
        # A level that cannot be held rises; that is no limit passed.
        if unmet_watts > 0.0 and demand.level is None:
            left[demand.circuit] = unmet_watts
    return lowering, left


class Lowering:
    """The caps being lowered in one cycle: what each job will draw, and why."""

    def __init__(
        self, snapshot: Snapshot, columns: CapColumns, demands: Sequence[Demand], policy: Policy
    ) -> None:
        self._snapshot = snapshot
        self._columns = columns
        self._policy = policy
        self._planned_watts = columns.drawn_watts.copy()
        self._reasons: dict[int, tuple[str, LimitKind]] = {}
        leases = columns.leases
        lowered_watts = np.maximum(leases.lowered_watts, 0.0)
        self._young_watts, self._young_at_root_watts = (
            np.where(leases.changed_seconds_ago < seconds, lowered_watts, 0.0)
            for seconds in (policy.cap_settle_seconds, _root_settle_seconds(snapshot, policy))
        )
        concerned = _concerned(columns, demands)
        self._members = {
            demand.circuit: (rows[concerned[rows]], weights[concerned[rows]])
            for demand in demands
            for rows, weights in [columns.members(demand.circuit)]
        }
        self._full_hertz = columns.full_hertz(concerned)

    @property
    def lowered(self) -> frozenset[int]:
        """The rows whose caps are being lowered."""
        return frozenset(self._reasons)

    def meet(self, demand: Demand) -> float:
        """Lower caps for one circuit; return the watts that no cap can save."""
        columns = self._columns
        left_watts = demand.watts - self._on_its_way_watts(demand.circuit)
        economic = demand.kind is LimitKind.ECONOMIC
        floors = columns.floor_watts if economic else columns.safety_floor_watts
        if demand.level is not None:
            floors = np.maximum(floors, demand.level.cap_floor_ratio * columns.uncapped_watts)
        left_watts = self._take(demand, left_watts, floors, shared=True)
        left_watts = self._take(demand, left_watts, floors)
        if left_watts > 0.0 and demand.kind is LimitKind.SAFETY:
            # Who promised nothing comes last, however dear the others' work is by then.
            urgent_watts = min(left_watts, demand.overload_watts)
            still_watts = self._take(
                demand, urgent_watts, np.where(columns.flex0, np.inf, columns.deepest_watts)
            )
            left_watts += self._take(demand, still_watts, columns.deepest_watts) - urgent_watts
        return max(0.0, left_watts)

    def _on_its_way_watts(self, circuit: str) -> float:
        """What caps planned in this cycle, and ones too young to show at the meter, save on a circuit."""
        rows, weights = self._members[circuit]
        at_root = circuit == self._columns.root
        young_watts = self._young_at_root_watts if at_root else self._young_watts
        saved = self._columns.drawn_watts[rows] - self._planned_watts[rows] + young_watts[rows]
        return float(saved @ weights)

    def _take(self, demand: Demand, left_watts: float, floors: Floats, *, shared: bool = False) -> float:
        """Take the cheapest watts above the floors; return what is left. ``shared``: within users' shares."""
        columns, (rows, weights) = self._columns, self._members[demand.circuit]
        if left_watts <= 0.0 or not len(rows):
            return max(0.0, left_watts)
        now_watts, floor_watts = self._planned_watts[rows], floors[rows]
        usable = columns.reachable[rows] & (weights > 0.0)
        # A floor that moves with the noise of a draw is no reason to write a cap again.
        usable &= ~(np.isfinite(columns.capped_watts[rows]) & (now_watts - floor_watts < _LEAST_MOVE_WATTS))
        if demand.kind is LimitKind.ECONOMIC:
            usable &= ~columns.yielded[rows] & (~columns.locked[rows] | (self._full_hertz[rows] > 0.0))
        if demand.level is not None:
            # What stands for safety is a power cap that lasts without us; money changes nothing about it.
            usable &= ~(np.isfinite(columns.capped_watts[rows]) & ~columns.leases.economic[rows])
            usable &= ~np.isin(
                rows, [row for row, (_, kind) in self._reasons.items() if kind is LimitKind.SAFETY]
            )
        tops = np.minimum(now_watts[:, None], columns.high_watts[rows])
        bottoms = stepped(columns.low_watts[rows], floor_watts[:, None])
        # A stretch begins where the one before it ends, in whole steps.
        tops[:, 1:] = np.minimum(tops[:, 1:], bottoms[:, :-1])
        saves = np.maximum(tops - bottoms, 0.0) * weights[:, None] * usable[:, None]
        cells = np.flatnonzero(saves > 0.0)
        if not len(cells):
            return left_watts
        places, stretches = np.divmod(cells, saves.shape[1])
        money = columns.money[rows[places], stretches] * columns.gpus[rows[places]] / weights[places]
        if demand.level is not None and demand.level.most_price_per_kwh is not None:
            worth_it = money <= demand.level.most_price_per_kwh
            cells, places, stretches = cells[worth_it], places[worth_it], stretches[worth_it]
            money = money[worth_it]
            if not len(cells):
                return left_watts
        order = np.argsort(
            _sort_keys(
                money,
                _turns(columns.users[rows], columns.name_ranks[rows])[places],
                columns.name_ranks[rows[places]],
                stretches,
            )
        )
        places, saved = places[order], saves.ravel()[cells[order]]
        if shared:
            saved = self._within_shares(rows, weights, places, saved, left_watts)
        reached = np.cumsum(saved)
        taken = np.clip(left_watts - (reached - saved), 0.0, saved)
        touched = np.bincount(places, weights=taken, minlength=len(rows))
        hit = np.flatnonzero(touched > 0.0)
        before_watts = now_watts[hit]
        targets = stepped(before_watts - touched[hit] / weights[hit], floor_watts[hit])
        self._planned_watts[rows[hit]] = np.minimum(before_watts, targets)
        why = _why(self._snapshot, demand, self._policy)
        self._reasons.update(dict.fromkeys(rows[hit].tolist(), (why, demand.kind)))
        gained = (before_watts - self._planned_watts[rows[hit]]) @ weights[hit]
        return max(0.0, left_watts - float(gained))

    def _within_shares(
        self, rows: Ints, weights: Floats, places: Ints, saved: Floats, left_watts: float
    ) -> Floats:
        """Cut what each user's levers may give to ``max_user_share_ratio`` of all that is being shaved."""
        columns = self._columns
        users = columns.users[rows]
        givers = users[places]
        if len(np.unique(givers)) < _FEWEST_USERS_TO_SHARE:
            return saved
        planned_watts = self._planned_watts[rows]
        standing = (planned_watts < columns.drawn_watts[rows]) | np.isfinite(columns.capped_watts[rows])
        carried = np.maximum(0.0, columns.uncapped_watts[rows] - planned_watts) * weights * standing
        most_watts = self._policy.max_user_share_ratio * (left_watts + float(carried.sum()))
        free_watts = most_watts - np.bincount(users, weights=carried, minlength=int(users.max()) + 1)
        by_user = np.argsort(givers, kind="stable")
        reached = np.cumsum(saved[by_user])
        first = np.searchsorted(givers[by_user], givers[by_user], side="left")
        before = reached - saved[by_user] - np.concatenate(([0.0], reached))[first]
        cut = np.empty(len(saved))
        cut[by_user] = np.clip(free_watts[givers[by_user]] - before, 0.0, saved[by_user])
        return cut

    def actions(self) -> list[SetCap]:
        """The lowered caps, with reasons their owners can read."""
        if not self._reasons:
            return []
        columns = self._columns
        reasons = sorted(self._reasons.items())
        rows = np.array([row for row, _ in reasons], dtype=np.int64)
        by_lock = columns.locked[rows] & [kind is LimitKind.ECONOMIC for _, (_, kind) in reasons]
        cap_watts = self._planned_watts[rows]
        figures = zip(
            reasons,
            cap_watts.tolist(),
            columns.uncapped_watts[rows].tolist(),
            columns.slowdowns(rows, cap_watts, by_lock).tolist(),
            np.where(by_lock, self._full_hertz[rows], 0.0).tolist(),
            columns.allowed_slowdowns[rows].tolist(),
            strict=True,
        )
        jobs = columns.placed.jobs
        texts: dict[tuple[str, str, int, bool], str] = {}
        found = []
        for (row, (reason, kind)), watts, uncapped, slowdown, full_hertz, allowed in figures:
            job = jobs[row]
            # Of thousands of caps many have the same words, and these take longer than the choice.
            beyond = slowdown > allowed + _EXACT
            words = _allowed_text(job, allowed)
            key = (reason, words, round(100.0 * slowdown), beyond)
            text = texts.get(key)
            if text is None:
                text = texts[key] = _text(reason, words, slowdown, beyond=beyond)
            found.append(
                _lowered(job, watts, uncapped, slowdown, full_hertz=full_hertz, text=text, kind=kind)
            )
        return found


def _root_settle_seconds(snapshot: Snapshot, policy: Policy) -> float:
    """How long a lowered cap may not show at the grid connection: the highest of some readings counts."""
    return policy.cap_settle_seconds + max(0, len(snapshot.recent_load_watts) - 1) * _READING_SECONDS


def _concerned(columns: CapColumns, demands: Sequence[Demand]) -> Bools:
    """The jobs that caps may come to or go from: those on circuits in need, and those that are capped.

    From a flex0 job an economic limit takes nothing.
    """
    concerned = columns.behind(demand.circuit for demand in demands)
    if all(demand.kind is LimitKind.ECONOMIC for demand in demands):
        concerned &= ~columns.flex0
    return concerned | np.isfinite(columns.capped_watts)


def _sort_keys(money: Floats, turns: Ints, name_ranks: Ints, stretches: Ints) -> Ints:
    """One number by which to sort: price first, then turn, then job, then the stretch of its curve.

    One sort of whole numbers takes a quarter of the time of four.
    """
    prices = np.floor(np.log(np.maximum(money, _FREE)) / np.log1p(_SAME_PRICE_RATIO)).astype(np.int64)
    jobs = int(name_ranks.max()) + 1
    by_turn = (prices - prices.min()) * jobs + turns
    keys: Ints = (by_turn * jobs + name_ranks) * (int(stretches.max()) + 1) + stretches
    return keys


def _turns(users: Ints, name_ranks: Ints) -> Ints:
    """Which turn of its user each job is: the first ones of all users come before anybody's second."""
    order = np.lexsort((name_ranks, users))
    sorted_users = users[order]
    turns = np.empty(len(users), dtype=np.int64)
    turns[order] = np.arange(len(users)) - np.searchsorted(sorted_users, sorted_users, side="left")
    return turns


def _why(snapshot: Snapshot, demand: Demand, policy: Policy) -> str:
    if demand.level is not None:
        return (
            f"the highest quarter of an hour of {demand.level.period} is paid for, so {demand.circuit} is"
            f" kept at {kilowatts_text(demand.level.level_watts)}"
        )
    limit_watts = snapshot.limit_watts(demand.circuit, policy.event_lead_seconds)
    event = _asked_by(snapshot, demand.circuit, limit_watts, policy.event_lead_seconds)
    asked = "" if event is None else f", {event.event_id}: {event.reason}"
    return (
        f"{demand.circuit} must stay below {kilowatts_text(limit_watts)} ({demand.kind.value} limit{asked})"
    )


def _asked_by(snapshot: Snapshot, circuit: str, limit_watts: float, lead_seconds: float) -> LimitEvent | None:
    """The event that sets a circuit's limit now, None where its standing limit does."""
    if limit_watts >= snapshot.site.circuits[circuit].ceiling_watts:
        return None
    asking = [
        event
        for event in snapshot.events
        if event.circuit == circuit
        and event.starts_in_seconds <= lead_seconds
        and event.ends_in_seconds > 0.0
    ]
    return min(asking, key=lambda event: event.limit_watts, default=None)


def _allowed_text(job: Job, allowed: float) -> str:
    """Which promise says how much a job may be slowed, and how much that is."""
    if allowed >= job.flex.max_slowdown_ratio:
        return _FLEX_TEXTS[job.flex]
    return f"{_FLEX_TEXTS[job.flex]}, {deadline_words(job)}, which allows {allowed:.0%}"


def _text(reason: str, allowed: str, slowdown: float, *, beyond: bool) -> str:
    text = f"{reason}; {allowed}, expected {slowdown:.0%}"
    return f"{text}, which is beyond the promise and happens for safety only" if beyond else text


def _lowered(
    job: Job,
    cap_watts: float,
    uncapped_watts: float,
    slowdown: float,
    *,
    full_hertz: float,
    text: str,
    kind: LimitKind,
) -> SetCap:
    """The cap with its reason; by a clock lock where there is a ``full_hertz``."""
    lock_hertz = None
    if full_hertz > 0.0:
        lock_hertz = lock_hertz_for(cap_watts / max(uncapped_watts, 1.0), full_hertz)
        text += f"; decoding follows its clock, which is locked at {lock_hertz / 1e6:.0f} MHz"
    return SetCap(
        job_id=job.job_id,
        cap_watts=cap_watts,
        kind=kind,
        reason=text,
        saved_watts=max(0.0, uncapped_watts - cap_watts) * job.gpu_count,
        slowdown_ratio=slowdown,
        lock_hertz=lock_hertz,
        full_hertz=full_hertz or None,
    )
