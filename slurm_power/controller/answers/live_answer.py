"""The whole site as a dashboard shows it each second, cheap for the control whatever the site's size.

What has to be seen in the controller's own loop is gathered there, from the snapshot that the last cycle
planned on; the rows and their text are made in another thread.
"""

import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from heapq import nlargest
from typing import TYPE_CHECKING, Any

from slurm_power import __version__, clock
from slurm_power.controller.answers.asked import need_operator
from slurm_power.controller.answers.event_answer import event_row
from slurm_power.controller.answers.forecast_answer import start_row
from slurm_power.controller.answers.governance_answers import iso_or_none
from slurm_power.controller.answers.standing_answer import standing_of, standing_row
from slurm_power.controller.answers.tier_answers import service_rows
from slurm_power.controller.answers.user_socket import Answer, Caller, RefusedError
from slurm_power.controller.jobs.job_row import job_row
from slurm_power.controller.sensing.sources import row_message
from slurm_power.controller.storage.ess_next import ess_next
from slurm_power.model.action import Plan
from slurm_power.model.forecast import ComingStart, Reach
from slurm_power.model.job import Job, JobState
from slurm_power.model.reading import Quality
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.loads import JobLoad, job_loads
from slurm_power.plan.weights import weights_of
from slurm_power.telemetry.circuits import SourceRow
from slurm_power.wire import Message

if TYPE_CHECKING:
    from slurm_power.controller.daemon import Controller

MOST_JOBS = 2000
_MOST_NODE_CIRCUITS, _FULLEST = 500, 100
_MOST_BAD_SOURCES = 50
_MOST_STARTS = 50
_MOST_USERS, _MOST_JOBS_OF_A_USER = 1000, 200
# A cycle that no longer comes is looked past: the picture must not stand still with it.
_OLD_SECONDS = 15.0
_ON_NODES = frozenset({JobState.STARTING, JobState.RUNNING, JobState.SUSPENDED, JobState.ENDING})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Moment:
    """What was gathered in the loop."""

    controller: "Controller"
    snapshot: Snapshot
    plan: Plan
    loads: tuple[JobLoad, ...]
    capped: frozenset[str]
    starts: tuple[ComingStart, ...]
    sources: list[SourceRow]
    leases: Mapping[str, list[Message]]
    head: Mapping[str, Any]
    most_jobs: int
    users: frozenset[str]


def live(controller: "Controller", request: Message, caller: Caller) -> Answer:
    """Everything that changes each second; raises RefusedError. Only for operators: all names are in it.

    ``most_jobs`` (0 to 2,000) bounds the jobs that are told, those that draw most; of ``users`` all are.
    """
    need_operator(caller, "see everybody's jobs at once")
    most_jobs, users = request.get("most_jobs", MOST_JOBS), request.get("users", [])
    problems = []
    if type(most_jobs) is not int or not 0 <= most_jobs <= MOST_JOBS:
        problems.append(f"most_jobs: not a whole number from 0 to {MOST_JOBS}")
    if not isinstance(users, list) or len(users) > _MOST_USERS:
        problems.append(f"users: must be a list of {_MOST_USERS} names at most")
    if problems or not isinstance(most_jobs, int) or not isinstance(users, list):
        raise RefusedError("; ".join(problems))
    moment = _gather(controller, most_jobs, frozenset(map(str, users)))
    return lambda: _text(moment)


def _gather(controller: "Controller", most_jobs: int, users: frozenset[str]) -> _Moment:
    snapshot = controller.planned_on
    if snapshot is None or abs((controller.now() - snapshot.at).total_seconds()) > _OLD_SECONDS:
        snapshot = controller.snapshot()
    controls, at_seconds, now_seconds = (
        controller.mode == "control",
        snapshot.at.timestamp(),
        clock.monotonic(),
    )
    sources = controller.sources.latest
    standing = controller.fairness.standing()
    news = controller.node_desk.lease_news
    head = {
        "at": snapshot.at.isoformat(),
        "site": snapshot.site.name,
        "version": __version__,
        "mode": controller.mode,
        "paused_until": iso_or_none(controller.control.paused_until),
        "weights": weights_of(controller.config.policy),
        "policy": controller.governance.policy.row(),
        "uptime_seconds": round(controller.uptime_seconds(), 1),
        "standing": standing_row(standing_of(controller, snapshot)),
        "ess": [
            {
                **asdict(ess),
                "circuit": snapshot.site.ess[name].circuit,
                "setpoint_watts": snapshot.setpoints.get(name) or None,
                "usable": ess.usable(),
                "next": ess_next(snapshot, controller.plan, name, controls=controls),
            }
            for name, ess in snapshot.ess.items()
        ],
        "events": [event_row(snapshot, event) for event in snapshot.events],
        "shortfalls": [asdict(shortfall) for shortfall in controller.plan.shortfalls],
        "services": service_rows(controller, None),
        "alerts": controller.alerts.rows(),
        "levers": _levers(snapshot, controller.plan),
        "forecast": _forecast(controller, at_seconds),
        "fairness": {
            "jain_index": round(standing.jain_index, 4),
            "worst_user": standing.worst_user,
            "worst_lost_ratio": round(standing.worst_lost_ratio, 4),
        },
        "unrenewed": news.count("expired", now_seconds),
        "drifting": news.count("drifted", now_seconds),
    }
    return _Moment(
        controller=controller,
        snapshot=snapshot,
        plan=controller.plan,
        loads=job_loads(snapshot, controller.config.policy),
        capped=frozenset(controller.levers.caps),
        starts=tuple(controller.forecasts.starts),
        sources=controller.source_rows() if sources is None else sources,
        leases=controller.telemetry.node_leases(),
        head=head,
        most_jobs=most_jobs,
        users=users,
    )


def _levers(snapshot: Snapshot, plan: Plan) -> dict[str, Any]:
    """Whether the batteries may be used, and whether a limit is above what all levers together hold."""
    now = [short for short in plan.shortfalls if short.from_seconds <= 0.0]
    worst = max(now, key=lambda short: short.watts, default=None)
    return {
        "ess_usable": any(ess.usable() for ess in snapshot.ess.values()),
        "exhausted": bool(now),
        "reason": "" if worst is None else f"{worst.circuit}: {worst.reason}",
    }


def _forecast(controller: "Controller", at_seconds: float) -> dict[str, Any]:
    """How the grid connection's forecast of the next hour does against the best naive one."""
    desk = controller.forecasts
    found = desk.forecast(controller.config.site.root.name, Reach.NEAR, at_seconds)
    score = None if found is None else found.score
    skill = None
    if score is not None and score.best_naive and score.best_naive_mae_watts > 0.0:
        skill = 1.0 - score.mae_watts / score.best_naive_mae_watts
    return {
        "worker": desk.worker(at_seconds)["state"],
        "beaten_by_naive": None if skill is None else skill < 0.0,
        "skill_ratio": None if skill is None else round(skill, 4),
    }


# --- beside the loop ------------------------------------------------------------------------------------


def _text(moment: _Moment) -> bytes:
    """The answer's line. Rows are written one by one: a large text at once would stop the loop meanwhile."""
    jobs, left_off = _jobs(moment)
    head = {key: value for key, value in moment.head.items() if key not in ("unrenewed", "drifting")}
    circuits, circuits_left_off = _circuits(moment.snapshot)
    leases = sum(map(len, moment.leases.values()))
    safe = sum(lease.get("state") == "safe" for held in moment.leases.values() for lease in held)
    rest = {
        **head,
        "circuits_left_off": circuits_left_off,
        "jobs_left_off": left_off,
        "job_counts": _counts(moment),
        "starts": _massive(moment),
        "sources": _sources(moment.sources),
        "leases": {
            "count": leases,
            "unrenewed": max(safe, moment.head["unrenewed"]),
            "drifting": moment.head["drifting"],
        },
    }
    parts = [b'{"ok":true,"circuits":[', b",".join(map(_plain, circuits)), b'],"jobs":[']
    loads = {load.job.job_id: load for load in moment.loads}
    rows = (job_row(moment.controller, moment.snapshot, job, loads.get(job.job_id)) for job in jobs)
    parts += [b",".join(_plain(_rounded(row)) for row in rows), b"],", _plain(rest)[1:], b"\n"]
    return b"".join(parts)


def _plain(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _rounded(row: dict[str, Any]) -> dict[str, Any]:
    return {key: round(value, 3) if isinstance(value, float) else value for key, value in row.items()}


def _circuits(snapshot: Snapshot) -> tuple[list[dict[str, Any]], int]:
    """The tree's rows, of many circuits of nodes only the fullest; and how many were left off."""
    site = snapshot.site
    inner, leaves = [], []
    for name, circuit in site.circuits.items():
        if site.children(name):
            inner.append(name)
        elif circuit.meter is not None:
            leaves.append(name)
    left_off = 0
    if len(leaves) > _MOST_NODE_CIRCUITS:
        left_off = len(leaves) - _FULLEST
        leaves = nlargest(_FULLEST, leaves, key=lambda name: _used_ratio(snapshot, name))
    shown = {*inner, *leaves, site.root.name}
    return [_circuit(snapshot, name) for name in site.circuits if name in shown], left_off


def _used_ratio(snapshot: Snapshot, name: str) -> float:
    reading = snapshot.circuits.get(name)
    watts = None if reading is None else reading.known_watts()
    # One that nobody measures is looked at before any other.
    return math.inf if watts is None else watts / max(snapshot.limit_watts(name), 1.0)


def _circuit(snapshot: Snapshot, name: str) -> dict[str, Any]:
    circuit, reading = snapshot.site.circuits[name], snapshot.circuits.get(name)
    age_seconds = None if reading is None or not math.isfinite(reading.age_seconds) else reading.age_seconds
    watts = None if reading is None else reading.known_watts()
    return {
        "name": name,
        "parent": circuit.parent,
        "watts": None if watts is None else round(watts, 1),
        "limit_watts": round(snapshot.limit_watts(name), 1),
        "rating_watts": circuit.rating_watts,
        "limit_kind": circuit.limit_kind.value,
        "quality": None if reading is None else reading.quality.value,
        "age_seconds": None if age_seconds is None else round(age_seconds, 2),
        "reason": "not metered" if reading is None else reading.reason,
    }


def _jobs(moment: _Moment) -> tuple[list[Job], int]:
    """The jobs to be told, most watts first, and how many were left off."""
    snapshot = moment.snapshot
    watts = {load.job.job_id: load.gpu_watts * load.job.gpu_count for load in moment.loads}
    massive = {start.job_id for start in moment.starts if start.massive}
    touched = snapshot.holds.keys() | snapshot.relocations.keys() | snapshot.tier_moves.keys() | massive
    touched |= snapshot.held_before_seconds.keys()
    worth = [job for job in snapshot.jobs if job.state in _ON_NODES or job.job_id in touched]
    top = nlargest(moment.most_jobs, worth, key=lambda job: watts.get(job.job_id, 0.0))
    if len(top) < len(worth) and moment.users:
        told, of_users = {job.job_id for job in top}, Counter[str]()
        for job in worth:
            if job.user in moment.users and job.job_id not in told:
                of_users[job.user] += 1
                if of_users[job.user] <= _MOST_JOBS_OF_A_USER:
                    top.append(job)
    return top, len(worth) - len(top)


def _counts(moment: _Moment) -> dict[str, Any]:
    """Jobs by what they do; ``gpu_count`` and ``watts`` are those on nodes, all together."""
    snapshot = moment.snapshot
    states = Counter[JobState]()
    for job in snapshot.jobs:
        states[job.state] += job.task_count
    return {
        "running": states[JobState.STARTING] + states[JobState.RUNNING] + states[JobState.SUSPENDED],
        "pending": states[JobState.PENDING],
        "capped": len(moment.capped),
        "held": len(snapshot.holds),
        "paused": len(snapshot.pauses),
        "gpu_count": sum(load.job.gpu_count for load in moment.loads),
        "watts": round(
            sum(load.gpu_watts * load.job.gpu_count for load in moment.loads if load.reachable), 1
        ),
    }


def _massive(moment: _Moment) -> list[dict[str, Any]]:
    """Massive starts, with what they add to the grid connection alone: there may be hundreds of circuits."""
    root = moment.snapshot.site.root.name
    found = [start_row(start, visible=True) for start in moment.starts if start.massive][:_MOST_STARTS]
    return [{**row, "step_watts": {root: row["step_watts"].get(root, 0.0)}} for row in found]


def _sources(rows: list[SourceRow]) -> dict[str, Any]:
    counts = Counter(row.quality for row in rows)
    bad = [row for row in rows if row.quality is not Quality.GOOD]
    bad.sort(key=lambda row: row.quality is not Quality.INVALID)
    return {
        **{quality.value: counts[quality] for quality in Quality},
        "bad": [row_message(row) for row in bad[:_MOST_BAD_SOURCES]],
    }
