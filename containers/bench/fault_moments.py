"""One trial: a job, a fault at one moment of its life, and what became of job and nodes."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from containers.bench.fault_ground import FINAL, NO_FAULT, Fault, Ground, Job
from containers.cluster.layout import LabError

# How long a fault lasts that stops Slurm itself; the others last until the job has ended.
FAULT_SECONDS = 4.0
# An epilog, a step that is killed and a node that registers take their time.
IDLE_SECONDS = 30.0
# Below what the idle site draws: any job that may be held is.
HELD_WATTS = 2_000
HELD_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it; ``well``: nothing lost, failed, drained or stuck."""

    text: str
    well: bool


Moment = Callable[[Ground, Fault], Outcome]


def trial(ground: Ground, moment: Moment, fault: Fault) -> Outcome:
    """Run one trial and leave the lab as it was; a lab that does not get there is an outcome, too."""
    try:
        outcome = moment(ground, fault)
    except LabError as error:
        outcome = Outcome(f"STUCK: {error}", False)
    finally:
        ground.tidy()
    return outcome


def judge(
    ground: Ground, *jobs: Job, expected: str = "ended well", idle_seconds: float = IDLE_SECONDS
) -> Outcome:
    """Wait for the end of all jobs and for idle nodes, and say what became of them."""
    problems = []
    for job in jobs:
        try:
            ground.until(partial(_ended, ground, job), "its end")
        except LabError:
            problems.append("STUCK: " + _described(ground, job))
            continue
        states = ground.states(job.number)
        if not states:
            problems.append("LOST")
        elif states != {"COMPLETED"}:
            problems.append(_described(ground, job))
    problems += _nodes_not_idle(ground, idle_seconds)
    return Outcome("; ".join(problems) or expected, not problems)


def _ended(ground: Ground, job: Job) -> bool:
    return ground.states(job.number) <= FINAL


def _described(ground: Ground, job: Job) -> str:
    records = ground.records(job.number)
    return (
        ", ".join(sorted({f"{record['JobState']} ({record['Reason']})" for record in records})) or "unknown"
    )


def _nodes_not_idle(ground: Ground, seconds: float) -> list[str]:
    try:
        ground.until(lambda: set(ground.nodes().values()) == {"idle"}, "idle nodes", seconds)
    except LabError:
        return [f"{name} {state}" for name, state in ground.nodes().items() if state != "idle"]
    return []


def _last(fault: Fault) -> None:
    """Let a fault last that keeps Slurm from going on."""
    if fault.stops_slurm:
        time.sleep(FAULT_SECONDS)


def _prepare(ground: Ground, fault: Fault) -> None:
    if fault.daemon == "slurmctld" and not fault.hung:
        ground.await_saved()


# --- moments --------------------------------------------------------------------------------------------


def at_submit(ground: Ground, fault: Fault) -> Outcome:
    """The submission happens within the fault; beside it one with sbatch, which must end alike."""
    # Else slurmctld comes back with what it knew before the trial, and runs jobs of then once more.
    _prepare(ground, fault)
    with ground.broken(fault):
        ours, plain = ground.submission("-wc1"), ground.submission("-wc2", plain=True)
        _last(fault)
        if not fault.stops_slurm:
            job, other = ours.finish(), plain.finish()
            if job is not None and other is not None:
                job.let_go()
                other.let_go()
                return judge(ground, job, other)
    if fault.stops_slurm:
        job, other = ours.finish(), plain.finish()
    if (job is None) != (other is None) or ours.status != plain.status:
        return Outcome(
            f"LOST: psbatch {ours.status} ({ours.said}), sbatch {plain.status} ({plain.said})", False
        )
    if job is None or other is None:
        last_words = ours.said.splitlines()[-1] if ours.said else ""
        return Outcome(f"refused, as by sbatch: {last_words}", True)
    job.let_go()
    other.let_go()
    return judge(
        ground, job, other, expected="accepted once mended; ended well" if fault.stops_slurm else "ended well"
    )


def at_start(ground: Ground, fault: Fault) -> Outcome:
    """The job becomes eligible within the fault: prolog and launch fall into it."""
    job = ground.submit("-wc1", "--begin=now+3")
    job.let_go()
    _prepare(ground, fault)
    with ground.broken(fault):
        _last(fault)
        if not fault.stops_slurm:
            return judge(ground, job)
    return judge(ground, job, expected="started once mended; ended well")


def running(ground: Ground, fault: Fault) -> Outcome:
    """The fault comes and goes while the job runs."""
    job = _running_job(ground, fault)
    with ground.broken(fault):
        time.sleep(FAULT_SECONDS if fault is not NO_FAULT else 0.0)
    ground.await_state(job, "RUNNING")
    job.let_go()
    return judge(ground, job)


def at_end(ground: Ground, fault: Fault) -> Outcome:
    """The job ends within the fault: so does its epilog."""
    job = _running_job(ground, fault)
    with ground.broken(fault):
        job.let_go()
        _last(fault)
        if not fault.stops_slurm:
            return judge(ground, job)
    return judge(ground, job)


def array(ground: Ground, fault: Fault) -> Outcome:
    """Twenty tasks, at most four at a time, start and end around the fault."""
    job = ground.submit("--array=0-19%4")
    job.let_go()
    ground.until(lambda: bool(ground.states(job.number) & {"RUNNING", "COMPLETED"}), "the first task")
    _prepare(ground, fault)
    with ground.broken(fault):
        _last(fault)
        if not fault.stops_slurm:
            return judge(ground, job)
    return judge(ground, job)


def heterogeneous(ground: Ground, fault: Fault) -> Outcome:
    """Two components on two nodes; the fault comes first, or, where it stops Slurm, while they run."""
    words = ("-wc1", ":", "-wc2", "--gres=gpu:1", "--time=10", "--output=/dev/null")
    if fault.stops_slurm:
        job = ground.submit(*words)
        ground.await_running(job)
        _prepare(ground, fault)
        with ground.broken(fault):
            _last(fault)
        job.let_go()
        return judge(ground, job)
    with ground.broken(fault):
        submission = ground.submission(*words)
        made = submission.finish()
        if made is None:
            return Outcome(f"LOST: {submission.said}", False)
        made.let_go()
        return judge(ground, made)


def requeued(ground: Ground, fault: Fault) -> Outcome:
    """The job is requeued within the fault, or just before it where Slurm cannot do it."""
    job = _running_job(ground, fault)
    return _meddled(ground, fault, job, ("scontrol", "requeue", job.number), restarts=1)


def suspended(ground: Ground, fault: Fault) -> Outcome:
    """The job is suspended within the fault, and resumed after it."""
    job = _running_job(ground, fault)
    if fault.stops_slurm:
        ground.slurm("scontrol", "suspend", job.number)
        # An order to stop that comes after the one to go on stops the job for good, with us or without.
        ground.until(ground.scripts_stopped, f"the stop of job {job.number}")
        _prepare(ground, fault)
    with ground.broken(fault):
        if not fault.stops_slurm:
            ground.slurm("scontrol", "suspend", job.number)
            ground.await_state(job, "SUSPENDED")
        time.sleep(FAULT_SECONDS if fault is not NO_FAULT else 0.0)
    ground.await_state(job, "SUSPENDED")
    ground.slurm("scontrol", "resume", job.number)
    job.let_go()
    return judge(ground, job)


def reconfigured(ground: Ground, fault: Fault) -> Outcome:
    """``scontrol reconfigure`` while the job runs."""
    job = _running_job(ground, fault)
    return _meddled(ground, fault, job, ("scontrol", "reconfigure"))


def node_failed(ground: Ground, fault: Fault) -> Outcome:
    """The node dies (slurmd and step killed, node set down): Slurm requeues the job, it runs elsewhere."""
    job = ground.submit("--requeue")
    ground.await_running(job)
    node = ground.records(job.number)[0]["NodeList"]
    ground.kill_node(node)
    down = ("scontrol", "update", f"nodename={node}", "state=down", "reason=trial")
    if fault.stops_slurm:
        ground.slurm(*down)
        _prepare(ground, fault)
    with ground.broken(fault):
        if not fault.stops_slurm:
            ground.slurm(*down)
            _run_again(ground, job)
        _last(fault)
    if fault.stops_slurm:
        _run_again(ground, job)
    ground.revive_nodes()
    return _with_restarts(ground, job, 1)


def _run_again(ground: Ground, job: Job) -> None:
    ground.hurry(job)
    ground.until(partial(_ended, ground, job), f"the end of job {job.number}")


def preempted(ground: Ground, fault: Fault) -> Outcome:
    """A job of an urgent partition takes the node: the job is requeued, and runs after it."""
    low = ground.submit("-wc1", "--exclusive", "--requeue")
    ground.await_running(low)

    def urgent() -> Job:
        high = ground.submit("-wc1", "--exclusive", "-purgent", user="bob")
        high.let_go()
        return high

    if fault.stops_slurm:
        high = urgent()
        _prepare(ground, fault)
        with ground.broken(fault):
            _last(fault)
        return _all_with_restarts(ground, [low, high], 1)
    with ground.broken(fault):
        high = urgent()
        ground.until(lambda: ground.states(high.number) == {"COMPLETED"}, "the urgent job's end")
        return _all_with_restarts(ground, [low, high], 1)


def held(ground: Ground, fault: Fault) -> Outcome:
    """Powerctld holds the job for a grid event; whatever breaks then, the job starts by itself."""
    ground.lab.wait_until(lambda: not ground.power(op="status")["events"], "no event", seconds=30.0)
    # Until it is held somebody else has the node, or it would start first.
    other = ground.submit("-wc1", "--exclusive", plain=True)
    ground.await_running(other)
    ground.announce(HELD_WATTS, HELD_SECONDS)
    job = ground.submit("-wc1")
    job.let_go()
    ground.until(lambda: ground.holds(job), "a hold of ours", HELD_SECONDS)
    other.let_go()
    _prepare(ground, fault)
    began = time.monotonic()
    with ground.broken(fault):
        _last(fault)
        if not fault.stops_slurm:
            outcome = judge(ground, job, other)
    if fault.stops_slurm:
        outcome = judge(ground, job, other)
    if not outcome.well:
        return outcome
    return Outcome(f"ended well, {time.monotonic() - began:.0f} s later", True)


MOMENTS: dict[str, Moment] = {
    "submit": at_submit,
    "start": at_start,
    "run": running,
    "end": at_end,
    "array": array,
    "het job": heterogeneous,
    "requeue": requeued,
    "suspend": suspended,
    "reconfigure": reconfigured,
    "node failure": node_failed,
    "preemption": preempted,
    "held by us": held,
}


def _running_job(ground: Ground, fault: Fault) -> Job:
    job = ground.submit("-wc1")
    ground.await_running(job)
    _prepare(ground, fault)
    return job


def _meddled(ground: Ground, fault: Fault, job: Job, words: tuple[str, ...], *, restarts: int = 0) -> Outcome:
    """Do something to a running job within the fault; just before it where Slurm itself is stopped."""
    if fault.stops_slurm:
        ground.slurm(*words)
        _prepare(ground, fault)
    with ground.broken(fault):
        if not fault.stops_slurm:
            ground.slurm(*words)
        _last(fault)
        if not fault.stops_slurm:
            return _with_restarts(ground, job, restarts)
    return _with_restarts(ground, job, restarts)


def _with_restarts(ground: Ground, job: Job, restarts: int) -> Outcome:
    return _all_with_restarts(ground, [job], restarts)


def _all_with_restarts(ground: Ground, jobs: list[Job], restarts: int) -> Outcome:
    if restarts:
        ground.hurry(jobs[0])
    jobs[0].let_go()
    outcome = judge(ground, *jobs)
    if not outcome.well:
        return outcome
    seen = int(ground.records(jobs[0].number)[0]["Restarts"])
    if seen != restarts:
        return Outcome(f"ended well, but was started {seen + 1} times", seen < restarts)
    return Outcome("ran again; ended well" if restarts else "ended well", True)


def killed_in_the_middle(ground: Ground, _fault: Fault, *, after_seconds: float) -> Outcome:
    """Kill slurmctld some time after a submission, with the job let go half way; it comes back at once."""
    job = ground.submit("-wc1")
    time.sleep(after_seconds / 2)
    job.let_go()
    time.sleep(after_seconds / 2)
    ground.lab.kill("slurmctld")
    ground.lab.start("slurmctld")
    return judge(ground, job)
