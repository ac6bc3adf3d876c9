"""The plan of the day, made every few minutes beside the cycle, in a thread that holds up nobody.

HiGHS lets go of the interpreter while it solves. A solver that is slow, finds nothing or fails leaves the
last plan, and after an hour none: releases and the guard need no plan of the day.
"""

import asyncio
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from slurm_power.model.day_plan import DayPlan
from slurm_power.model.job import JobState
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.class_problem import ClassProblem, DayPrices, class_problem
from slurm_power.plan.policy import Policy

SUBJECT = "day plan"
_SOLVER_SECONDS = 5.0
# Over a handful of jobs a plan of classes says nothing that the release does not.
_LEAST_JOBS = 50
_KEPT = timedelta(hours=1)

Solve = Callable[[ClassProblem, datetime], DayPlan | None]


def _solve(problem: ClassProblem, made_at: datetime) -> DayPlan | None:
    # The solver's library is for those sites that have a queue to plan.
    from slurm_power.plan.lp_classes import solve  # noqa: PLC0415  # see above

    return solve(problem, made_at, most_seconds=_SOLVER_SECONDS)


class DayPlanDesk:
    """Keeps the latest plan. ``fault`` is told when no plan comes, and with "" when one does again.

    ``seconds`` between two plans, 0 for none at all; ``prices`` gives the prices of the hours from now on,
    ``base_watts`` what will be drawn beside jobs in them, as far as it is forecast.
    """

    def __init__(
        self,
        policy: Policy,
        *,
        seconds: float,
        fault: Callable[[str, str], None],
        prices: Callable[[Snapshot], DayPrices] = lambda _snapshot: DayPrices(),
        base_watts: Callable[[Snapshot], Sequence[float]] = lambda _snapshot: (),
        solver: Solve = _solve,
    ) -> None:
        self._policy = policy
        self._seconds = seconds
        self._fault = fault
        self._prices = prices
        self._base_watts = base_watts
        self._solver = solver
        self._plan: DayPlan | None = None
        self._problem = ""
        self._next_seconds = float("-inf")
        self._at_work: asyncio.Task[None] | None = None

    def use_policy(self, policy: Policy) -> None:
        """Go by another policy from now on."""
        self._policy = policy
        self._next_seconds = float("-inf")

    def latest(self, at: datetime) -> DayPlan | None:
        """The latest plan, None where there is none or it is too old to say anything."""
        if self._plan is not None and at - self._plan.made_at > _KEPT:
            self._plan = None
        return self._plan

    def look(self, snapshot: Snapshot, now_seconds: float) -> None:
        """Begin a new plan if one is due and none is being made; monotonic seconds."""
        if self._seconds == 0.0 or now_seconds < self._next_seconds or self._at_work is not None:
            return
        self._next_seconds = now_seconds + self._seconds
        waiting = sum(job.state is JobState.PENDING for job in snapshot.jobs)
        problem = None
        if waiting >= _LEAST_JOBS:
            problem = class_problem(
                snapshot, self._policy, self._prices(snapshot), self._base_watts(snapshot)
            )
        if problem is None:
            self._plan = None
            return
        self._at_work = asyncio.create_task(self._make(problem, snapshot.at))

    async def stop(self) -> None:
        """Wait for a solver at work: it ends within its time limit."""
        if self._at_work is not None:
            await self._at_work

    async def _make(self, problem: ClassProblem, at: datetime) -> None:
        said = ""
        try:
            made = await asyncio.to_thread(self._solver, problem, at)
            if made is None:
                said = f"the solver found no plan in {_SOLVER_SECONDS:g} s; the last one stays"
            else:
                self._plan = made
        except Exception as error:  # noqa: BLE001  # a solver's own fault costs a plan, never the cycle
            said = f"{type(error).__name__}: {error}"
        finally:
            self._at_work = None
        if said != self._problem:
            self._problem = said
            self._fault(SUBJECT, said)
