"""The desk of the day's plan: made beside the cycle; what goes wrong leaves the last one."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from slurm_power.controller.planning.day_plan import DayPlanDesk
from slurm_power.model.day_plan import DayPlan
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.class_problem import ClassProblem
from slurm_power.plan.policy import Policy
from tests.plan.situations import AT, pending
from tests.plan.test_class_plan import idle, solved

QUEUE = idle(tuple(pending(str(n), 8) for n in range(60)))
PLAN = solved()
Solver = Callable[[ClassProblem, datetime], DayPlan | None]


def desk(solver: Solver, said: list[tuple[str, str]], seconds: float = 300.0) -> DayPlanDesk:
    return DayPlanDesk(
        Policy(), seconds=seconds, fault=lambda subject, text: said.append((subject, text)), solver=solver
    )


async def one_round(made: DayPlanDesk, snapshot: Snapshot, now_seconds: float) -> None:
    made.look(snapshot, now_seconds)
    await made.stop()


def test_a_plan_is_made_when_it_is_due_and_ages_out() -> None:
    asked: list[datetime] = []

    def solver(_problem: ClassProblem, at: datetime) -> DayPlan:
        asked.append(at)
        return replace(PLAN, made_at=at)

    async def run() -> None:
        made = desk(solver, [])
        for now_seconds in (0.0, 10.0, 301.0):
            await one_round(made, QUEUE, now_seconds)
        assert len(asked) == 2
        assert made.latest(AT + timedelta(minutes=59)) is not None
        assert made.latest(AT + timedelta(minutes=61)) is None

    asyncio.run(run())


def failing(_problem: ClassProblem, _at: datetime) -> DayPlan:
    raise RuntimeError("no licence for that")


@pytest.mark.parametrize("solver", [failing, lambda _problem, _at: None], ids=["fails", "too slow"])
def test_a_solver_that_gives_nothing_leaves_the_last_plan_and_is_told_once(solver: Solver) -> None:
    answers: list[Solver] = [lambda _problem, at: replace(PLAN, made_at=at), solver, solver]

    def one_after_the_other(problem: ClassProblem, at: datetime) -> DayPlan | None:
        return answers.pop(0)(problem, at)

    said: list[tuple[str, str]] = []

    async def run() -> None:
        made = desk(one_after_the_other, said)
        for now_seconds in (0.0, 301.0, 602.0):
            await one_round(made, QUEUE, now_seconds)
        assert made.latest(AT) is not None

    asyncio.run(run())
    assert len(said) == 1 and said[0][1]


def test_a_slow_solver_holds_up_nobody_and_is_not_asked_twice() -> None:
    asked = 0

    def solver(_problem: ClassProblem, at: datetime) -> DayPlan:
        nonlocal asked
        asked += 1
        return replace(PLAN, made_at=at)

    async def run() -> None:
        made = desk(solver, [], seconds=0.001)
        made.look(QUEUE, 0.0)
        made.look(QUEUE, 1.0)
        assert made.latest(AT) is None
        await made.stop()
        assert made.latest(AT) is not None

    asyncio.run(run())
    assert asked == 1


@pytest.mark.parametrize(("snapshot", "seconds"), [(idle((pending("7", 8),)), 300.0), (QUEUE, 0.0)])
def test_a_handful_of_jobs_and_a_site_that_wants_none_have_no_plan(
    snapshot: Snapshot, seconds: float
) -> None:
    async def run() -> None:
        made = desk(failing, [], seconds=seconds)
        await one_round(made, snapshot, 0.0)
        assert made.latest(AT) is None

    asyncio.run(run())


def test_the_real_solver_in_its_thread() -> None:
    async def run() -> None:
        made = DayPlanDesk(Policy(), seconds=300.0, fault=lambda _subject, _text: None)
        await one_round(made, QUEUE, 0.0)
        found = made.latest(AT)
        assert found is not None and sum(map(sum, found.starts.values())) > 0.0

    asyncio.run(run())
