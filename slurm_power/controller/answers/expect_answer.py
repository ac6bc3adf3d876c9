"""What may be asked of a job before it is submitted: its draw and cost, and whether it would be held."""

from dataclasses import asdict, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from slurm_power.controller.answers.governance_answers import policy_for
from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.controller.jobs.run_times import ExpectedRun, expected_run
from slurm_power.forecast.job_power import Submission
from slurm_power.forecast.run_times import JobKind
from slurm_power.forecast.supply import SupplyAhead
from slurm_power.model.action import HoldJob
from slurm_power.model.expected_power import ExpectedPower
from slurm_power.model.job import Flex, Job, JobState, Workload
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.job_bill import Bill, Draw, Prices, flex_terms, own_cap
from slurm_power.plan.job_table import START_SECONDS, longest_hold_seconds
from slurm_power.plan.loads import pending_watts, worst_factor
from slurm_power.plan.planner import hold_of, room_for_starts
from slurm_power.wire import Message

if TYPE_CHECKING:
    from slurm_power.controller.daemon import Controller

_MOST_GPUS = 1_000_000
_LONGEST_SECONDS = 1e9
_LONGEST_WORD = 200
_MOST_CAP_WATTS = 100_000.0
# No job of Slurm's has such an id.
_ASKED = "asked"
# Prices and CO2 are looked up on this grid. A job that ends later than so far ahead has an unknown cost.
_PRICE_STEP_SECONDS = 900.0
_MOST_PRICE_STEPS = 7 * 96
_MOST_CIRCUITS = 20


class _Asked:
    """One question, checked; raises RefusedError."""

    def __init__(self, controller: "Controller", request: Message, caller: Caller) -> None:
        problems: list[str] = []
        asker = caller.user
        self.user = _word(request, "user", problems) or asker
        workload = _one_of(request, "workload", Workload, Workload.TRAINING, problems)
        flex = _one_of(request, "flex", Flex, Flex.FLEX0, problems)
        self.gpus = int(_number(request, "gpus", _MOST_GPUS, problems) or 0)
        limit_seconds = _number(request, "time_limit_seconds", _LONGEST_SECONDS, problems)
        self.told = {key: _word(request, key, problems) for key in ("name", "account", "tier", "gpu_type")}
        self.start_in_seconds = _number(request, "start_in_seconds", _LONGEST_SECONDS, problems) or 0.0
        self.max_hold_seconds = _number(request, "max_hold_seconds", _LONGEST_SECONDS, problems)
        self.finish_by_in_seconds = _number(request, "finish_by_in_seconds", _LONGEST_SECONDS, problems)
        self.cap_watts = _number(request, "cap_watts", _MOST_CAP_WATTS, problems)
        if problems:
            raise RefusedError("; ".join(problems))
        if self.user != asker and not caller.operator:
            raise RefusedError(f"{asker} may not ask what jobs of {self.user} draw")
        self.snapshot = controller.snapshot()
        own = any(job.user == self.user and job.account == self.told["account"] for job in self.snapshot.jobs)
        if not caller.operator and not own:
            # What an account's jobs draw may be what one other user's draw.
            self.told["account"] = ""
        self.job = Job(
            job_id=_ASKED,
            user=self.user,
            account=self.told["account"],
            name=self.told["name"],
            state=JobState.PENDING,
            gpu_count=self.gpus,
            workload=workload,
            flex=flex,
            time_limit_seconds=limit_seconds,
            max_hold_seconds=self.max_hold_seconds,
            own_cap_watts=self.cap_watts or None,
            finish_by=None
            if self.finish_by_in_seconds is None
            else self.snapshot.at + timedelta(seconds=self.finish_by_in_seconds),
        )

    def most_hold_seconds(self) -> float:
        """What the user's own words leave of a hold, whatever the class; infinite where they say nothing."""
        most = float("inf") if self.max_hold_seconds is None else self.max_hold_seconds
        if self.finish_by_in_seconds is None:
            return most
        if self.job.time_limit_seconds is None:
            return 0.0  # nobody knows how long it needs
        spare = self.finish_by_in_seconds - self.start_in_seconds - self.job.time_limit_seconds
        return max(0.0, min(most, spare - START_SECONDS))


def expect(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Answer `expect`: only operators may ask about somebody else's jobs."""
    asked = _Asked(controller, request, caller)
    job, gpus, policy = asked.job, asked.gpus, controller.config.policy
    told = Submission(user=asked.user, workload=job.workload.value, gpus=float(gpus or 1), **asked.told)
    found = controller.expectations.expect(told)
    gpu_watts, cap_slowdown_ratio = own_cap(job, found.mean_watts, asked.cap_watts)
    p95_watts = found.p95_watts if asked.cap_watts is None else min(found.p95_watts, asked.cap_watts)
    capped = replace(found, mean_watts=gpu_watts, p95_watts=p95_watts)
    snapshot = controller.expectations.with_one(asked.snapshot, _ASKED, capped)
    longest = min(longest_hold_seconds(job), asked.most_hold_seconds())
    hold = _hold(controller, snapshot, job) if gpus and longest > 0.0 else None
    site_watts = pending_watts(snapshot, job, policy) if gpus else None
    answer: Message = {
        "expected": {
            "workload": job.workload.value,
            "flex": job.flex.value,
            "gpus": gpus,
            **expected_row(capped),
            "cap_slowdown_ratio": round(cap_slowdown_ratio, 3),
        },
        "site_watts": None if site_watts is None else round(site_watts),
        "held": hold is not None,
        "hold_reason": "" if hold is None else hold.reason,
        "longest_hold_seconds": round(longest),
        "limits": _limits(controller, snapshot),
        "currency": controller.config.supply.currency,
    }
    answer["policy"] = policy_for(controller, replace(job, tier=asked.told["tier"]))
    return answer | _money(controller, asked, gpu_watts, site_watts, cap_slowdown_ratio)


def _hold(controller: "Controller", snapshot: Snapshot, job: Job) -> HoldJob | None:
    hold_seconds = controller.config.controller.hold_lease_seconds
    return hold_of(snapshot, job, controller.config.policy, hold_seconds=hold_seconds)


def _limits(controller: "Controller", snapshot: Snapshot) -> list[dict[str, Any]]:
    """The grid connection, then the circuits with least room for what starts."""
    room = room_for_starts(snapshot, controller.config.policy)
    root = snapshot.site.root.name
    names = sorted(room, key=lambda name: (name != root, room[name]))[:_MOST_CIRCUITS]
    return [
        {
            "circuit": name,
            "limit_kind": snapshot.site.circuits[name].limit_kind.value,
            "limit_watts": snapshot.limit_watts(name),
            "room_watts": round(room[name]) if room[name] != float("inf") else None,
        }
        for name in names
    ]


def _money(
    controller: "Controller",
    asked: _Asked,
    gpu_watts: float,
    site_watts: float | None,
    cap_slowdown_ratio: float,
) -> Message:
    """How long the job should run, what that costs, and what each flex class would change."""
    job, limit_seconds = asked.job, asked.job.time_limit_seconds
    run = None
    if limit_seconds:
        kind = JobKind(user=job.user, gpus=float(job.gpu_count or 1), limit_seconds=limit_seconds)
        run = expected_run(controller.forecasts.run_times, kind)
    if site_watts is None:
        return {"run": _run_row(run), "expected_bill": None, "limit_bill": None, "flex_classes": []}
    snapshot, policy = asked.snapshot, controller.config.policy
    start_seconds = snapshot.at.timestamp() + asked.start_in_seconds
    # A cap of the user's own makes the run longer; the limit stays.
    run_seconds = None if run is None else run.seconds / (1.0 - cap_slowdown_ratio)
    if run_seconds is not None and limit_seconds:
        run_seconds = min(run_seconds, limit_seconds)
    # A hold is at most half of the limit, and a cap at most doubles the run.
    longest = 2.5 * max(run_seconds or 0.0, limit_seconds or 0.0)
    prices = Prices(_ahead(controller, snapshot, start_seconds + longest))
    draw = _draw(snapshot, job, gpu_watts, site_watts)
    expected, limit = (
        None if seconds is None else prices.bill(site_watts, start_seconds=start_seconds, seconds=seconds)
        for seconds in (run_seconds, limit_seconds)
    )
    terms = [
        flex_terms(
            job,
            flex,
            draw,
            policy,
            prices,
            start_seconds=start_seconds,
            run_seconds=limit_seconds if run_seconds is None else run_seconds,
            most_hold_seconds=asked.most_hold_seconds(),
        )
        for flex in Flex
    ]
    return {
        "run": _run_row(run),
        "expected_bill": _bill_row(expected),
        "limit_bill": _bill_row(limit),
        "flex_classes": [_rounded(asdict(one)) for one in terms],
    }


def _ahead(controller: "Controller", snapshot: Snapshot, until_seconds: float) -> SupplyAhead:
    """Prices and CO2 from now on."""
    start_seconds = snapshot.at.timestamp() // _PRICE_STEP_SECONDS * _PRICE_STEP_SECONDS
    steps = int((until_seconds - start_seconds) // _PRICE_STEP_SECONDS) + 2
    return controller.supply.ahead(
        snapshot,
        snapshot.site.root.name,
        start_seconds=start_seconds,
        step_seconds=_PRICE_STEP_SECONDS,
        steps=min(steps, _MOST_PRICE_STEPS),
    )


def _draw(snapshot: Snapshot, job: Job, gpu_watts: float, site_watts: float) -> Draw:
    """The bounds are those of all GPUs that report: nobody knows yet which the job will get."""
    gpus = [gpu for node in snapshot.nodes.values() for gpu in node.gpus.values()]
    return Draw(
        gpu_watts=gpu_watts,
        site_watts=site_watts,
        site_watts_per_gpu_watt=job.gpu_count * worst_factor(snapshot.site),
        default_cap_watts=max((gpu.default_cap_watts for gpu in gpus), default=None),
        min_cap_watts=max((gpu.min_cap_watts for gpu in gpus), default=None),
    )


def _run_row(run: ExpectedRun | None) -> dict[str, Any] | None:
    return None if run is None else {key: round(value) for key, value in asdict(run).items()}


def _bill_row(one: Bill | None) -> dict[str, Any] | None:
    return None if one is None else _rounded(asdict(one))


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 4) if isinstance(value, float) else value for key, value in row.items()}


def expected_row(found: ExpectedPower | None) -> dict[str, Any]:
    """An expectation as an answer carries it; all null for a job of which no more than its class is known."""
    if found is None:
        return dict.fromkeys(_ROW)
    values = (getattr(found, name) for name in _FIELDS)
    rounded = (round(value, 1) if isinstance(value, float) else value for value in values)
    return dict(zip(_ROW, rounded, strict=True))


_FIELDS = (
    "mean_watts",
    "p95_watts",
    "start_step_watts",
    "ramp_seconds",
    "swing_watts",
    "known_from",
    "jobs",
    "own_seconds",
)
_ROW = tuple(f"expected_{name}" for name in _FIELDS)


def _word(request: Message, key: str, problems: list[str]) -> str:
    value = request.get(key)
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _LONGEST_WORD:
        problems.append(f"{key}: must be a text of {_LONGEST_WORD} letters at most")
        return ""
    return value


def _number(request: Message, key: str, most: float, problems: list[str]) -> float | None:
    value = request.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 <= value <= most:
        problems.append(f"{key}: {str(value)[:40]!r} is not between 0 and {most:g}")
        return None
    return float(value)


def _one_of(request: Message, key: str, words: Any, default: Any, problems: list[str]) -> Any:
    value = request.get(key)
    if value is None:
        return default
    if value not in list(words):
        problems.append(f"{key}: {str(value)[:40]!r} is not one of {', '.join(words)}")
        return default
    return words(value)
