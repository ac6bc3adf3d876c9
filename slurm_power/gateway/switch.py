"""The switch from one tier to another as a pure state machine: a state and a look at the world give the next.

It is driven by what is seen, never by what it remembers to have done: any process may die in any step, and
the next look goes on from there. Two promises hold in every step: a member that serves well is let go only
once another serves, and no second switch begins before the first is over.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from slurm_power.gateway.members import (
    COMING,
    GOING,
    Act,
    EndJob,
    Failed,
    JobSeen,
    Limits,
    Member,
    Phase,
    Sight,
    State,
    Submit,
    WarmUp,
    Wish,
)

NOTHING_SEEN = Sight()


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The next state, what is to be done for it, and what there is to tell a person."""

    state: State
    acts: tuple[Act, ...]
    notes: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class _Turn:
    """One step while it is worked out."""

    members: list[Member]
    failed: dict[str, Failed]
    sights: Mapping[str, Sight]
    wish: Wish
    limits: Limits
    now: float
    next_order: int
    last_served: str
    acts: list[Act] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def sight(self, member: Member) -> Sight:
        return self.sights.get(member.key, NOTHING_SEEN)

    def first(self, *phases: Phase) -> Member | None:
        found = [member for member in self.members if member.phase in phases]
        return min(found, key=lambda member: member.order) if found else None

    def put(self, member: Member) -> Member:
        self.members = [member if other.key == member.key else other for other in self.members]
        return member

    def move(self, member: Member, phase: Phase, note: str) -> Member:
        self.notes.append(f"{member.tier}{_job(member)}: {note}")
        return self.put(replace(member, phase=phase, since_seconds=self.now))

    def forget(self, member: Member, note: str) -> None:
        self.notes.append(f"{member.tier}{_job(member)}: {note}")
        self.members = [other for other in self.members if other.key != member.key]

    def fail(self, member: Member, why: str, *, free: int = 0) -> None:
        """Give a member up, and its tier for a while: twice as long each time, after ``free`` failures."""
        count = self.failed[member.tier].count + 1 if member.tier in self.failed else 1
        wait = self.limits.first_retry_seconds * 2.0 ** min(count - 1 - free, 20) if count > free else 0.0
        wait = min(wait, self.limits.most_retry_seconds)
        self.failed[member.tier] = Failed(count=count, until_seconds=self.now + wait)
        self.move(
            member, Phase.STOPPING, f"{why}; given up, the tier is tried again in {wait:g} s at the earliest"
        )

    def barred(self, tier: str) -> bool:
        return tier in self.failed and self.now < self.failed[tier].until_seconds

    def age(self, member: Member) -> float:
        return self.now - member.since_seconds


def step(
    state: State, sights: Mapping[str, Sight], wish: Wish, limits: Limits, *, now: float, fresh_key: str
) -> Step:
    """Work out the next state. ``now`` is monotonic, ``fresh_key`` names a member should one be begun."""
    turn = _Turn(
        members=[_this_boot(member, now) for member in state.members],
        failed={
            tier: replace(failed, until_seconds=min(failed.until_seconds, now + limits.most_retry_seconds))
            for tier, failed in state.failed.items()
        },
        sights=sights,
        wish=wish,
        limits=limits,
        now=now,
        next_order=state.next_order,
        last_served=state.last_served,
    )
    for member in list(turn.members):
        _look(turn, member)
    _take_over(turn)
    _let_go(turn)
    _choose(turn, fresh_key)
    _order_acts(turn)
    serving = turn.first(Phase.SERVING)
    after = State(
        members=tuple(turn.members),
        failed=turn.failed,
        next_order=turn.next_order,
        last_served=serving.tier if serving else turn.last_served,
    )
    return Step(state=after, acts=tuple(turn.acts), notes=tuple(turn.notes))


def _this_boot(member: Member, now: float) -> Member:
    """Times from before a reboot lie ahead of the clock: they count from now."""
    times = ("since_seconds", "running_seconds", "down_seconds", "absent_seconds", "end_asked_seconds")
    late = {name: now for name in times if (getattr(member, name) or 0.0) > now}
    return replace(member, **late) if late else member  # type: ignore[arg-type]  # all are times


def _job(member: Member) -> str:
    return f" (job {member.job_id})" if member.job_id else ""


def _look(turn: _Turn, member: Member) -> None:
    """Take in what was seen of one member, and move it on where that alone decides."""
    sight = turn.sight(member)
    running = member.running_seconds
    if sight.job is JobSeen.RUNNING:
        running = turn.now if running is None else running
    elif sight.job is JobSeen.PENDING:
        running = None
    member = turn.put(
        replace(
            member,
            job_id=sight.job_id or member.job_id,
            address=member.address
            if member.phase not in (Phase.SUBMITTING, Phase.STARTING)
            else sight.address,
            running_seconds=running,
            down_seconds=_since(member.down_seconds, sight.up, bad=False, now=turn.now),
            absent_seconds=_absent_since(member, sight, turn.now),
        )
    )
    match member.phase:
        case Phase.SUBMITTING:
            _look_at_submission(turn, member, sight)
        case Phase.STARTING | Phase.WARMING | Phase.READY:
            _look_at_start(turn, member, sight)
        case Phase.SERVING | Phase.DRAINING | Phase.CLOSING:
            pass  # together with the others, below
        case Phase.STOPPING:
            if sight.job is JobSeen.ABSENT:
                turn.forget(member, "its job has ended, its GPUs are free")


def _since(before: float | None, seen: bool | None, *, bad: bool, now: float) -> float | None:
    if seen is None:
        return before
    return (now if before is None else before) if seen is bad else None


def _absent_since(member: Member, sight: Sight, now: float) -> float | None:
    """Since when Slurm has no job at work for a member; one that served and is queued again has none."""
    if sight.job is JobSeen.UNKNOWN:
        return member.absent_seconds
    served = member.phase in (Phase.SERVING, *GOING)
    gone = sight.job in (JobSeen.ABSENT, JobSeen.ENDING) or (served and sight.job is JobSeen.PENDING)
    return (now if member.absent_seconds is None else member.absent_seconds) if gone else None


def _look_at_submission(turn: _Turn, member: Member, sight: Sight) -> None:
    if sight.job in (JobSeen.PENDING, JobSeen.RUNNING):
        turn.move(member, Phase.STARTING, f"its job {sight.job_id} is submitted")
    elif sight.refusal:
        turn.fail(member, f"its job was not taken: {sight.refusal}")


def _look_at_start(turn: _Turn, member: Member, sight: Sight) -> None:
    """One that is to come: on to the next phase, or given up."""
    limits = turn.limits
    if sight.job in (JobSeen.ABSENT, JobSeen.ENDING):
        turn.fail(member, "its job ended before it served")
    elif sight.job is JobSeen.PENDING:
        if member.phase is not Phase.STARTING:
            turn.move(member, Phase.STARTING, "its job was queued again")
        elif turn.age(member) > limits.queue_seconds:
            turn.fail(member, f"its job did not start within {limits.queue_seconds:g} s")
    elif member.running_seconds is not None and turn.now - member.running_seconds > limits.ready_seconds:
        turn.fail(member, f"it was not ready within {limits.ready_seconds:g} s of its start")
    elif member.phase is Phase.STARTING and sight.address and sight.healthy:
        turn.move(member, Phase.WARMING, f"it is healthy at {sight.address}")
    elif member.phase is Phase.WARMING and sight.warmed:
        turn.move(member, Phase.READY, "its warm-up is answered")


def _lost(turn: _Turn, member: Member) -> bool:
    return member.absent_seconds is not None and turn.now - member.absent_seconds > turn.limits.lost_seconds


def _dead(turn: _Turn, member: Member) -> bool:
    """Whether a member that served cannot any more.

    Slurm may lose sight of a job that still runs: as long as it answers it serves on.
    """
    up = turn.sight(member).up
    return member.absent_seconds is not None and (up is False or (up is None and _lost(turn, member)))


def _down(turn: _Turn, member: Member) -> bool:
    return turn.sight(member).up is False or _dead(turn, member)


def _take_over(turn: _Turn) -> None:
    """Who serves from now on: one that is ready, or the one before where the new one fails."""
    for member in [m for m in turn.members if m.phase in GOING and _dead(turn, m)]:
        turn.move(member, Phase.STOPPING, "its job has ended")
    serving = turn.first(Phase.SERVING)
    before = turn.first(*GOING)
    if serving is not None and _down(turn, serving):
        if before is not None and turn.sight(before).up is not False:
            turn.move(before, Phase.SERVING, f"serves again, {serving.tier} fails")
            turn.fail(serving, "it failed while the tier before it was still there")
            serving = turn.first(Phase.SERVING)
        elif _dead(turn, serving):
            # It did well before: once, it is started again at once.
            turn.fail(serving, "its job has ended while it served", free=1)
            serving = None
    if serving is None and before is not None and before.phase in GOING:
        serving = turn.move(before, Phase.SERVING, "serves again, nothing else does")
    ready = turn.first(Phase.READY)
    if ready is None or not (turn.sight(ready).up is True or serving is None):
        return
    turn.move(ready, Phase.SERVING, "serves: new requests go to it")
    if serving is not None:
        turn.move(serving, Phase.DRAINING, "gets no new requests and finishes what it has")


def _let_go(turn: _Turn) -> None:
    """Let the old tier go once the new one has proved itself and no stream is open, or the time is over."""
    serving = turn.first(Phase.SERVING)
    if serving is None:
        return
    limits = turn.limits
    well = turn.sight(serving).up is True and turn.age(serving) >= limits.probation_seconds
    if well:
        turn.failed.pop(serving.tier, None)
    for member in [other for other in turn.members if other.phase in GOING]:
        streams = turn.sight(member).open_streams
        late = turn.age(member) >= limits.drain_seconds
        if not well:
            continue
        if member.phase is Phase.DRAINING and late:
            cut = "none known" if streams is None else str(streams)
            turn.move(
                member,
                Phase.STOPPING,
                f"drain deadline of {limits.drain_seconds:g} s: open streams cut: {cut}",
            )
        elif (
            member.phase is Phase.DRAINING and streams == 0 and turn.age(member) >= limits.least_drain_seconds
        ):
            turn.move(member, Phase.CLOSING, "no stream is open")
        elif member.phase is Phase.CLOSING and (streams == 0 or turn.age(member) >= limits.stop_seconds):
            turn.move(member, Phase.STOPPING, "is let go")


def _choose(turn: _Turn, fresh_key: str) -> None:
    """Begin a switch, take one back, or leave it."""
    serving, coming, going = turn.first(Phase.SERVING), turn.first(*COMING), turn.first(*GOING)
    target = turn.wish.tier or (serving.tier if serving else None)
    if coming is not None:
        # Where nobody says anything, a switch that was begun goes on.
        unwanted = (
            turn.wish.tier is not None and serving is not None and coming.tier not in (target, serving.tier)
        )
        if unwanted and serving is not None and not _down(turn, serving):
            turn.move(
                coming, Phase.STOPPING, f"is not wanted any more: {turn.wish.reason or 'another tier is'}"
            )
    elif going is not None:
        _turn_back(turn, serving, going, target)
    elif serving is None:
        tiers = [turn.wish.tier, turn.last_served, *turn.wish.fallbacks]
        free = next((tier for tier in tiers if tier and not turn.barred(tier)), None)
        if free is not None:
            _begin(turn, free, fresh_key, turn.wish.reason or "nothing serves")
    elif turn.first(Phase.STOPPING) is not None and not _long_down(turn, serving):
        pass  # its GPUs are not free yet
    elif target is not None and target != serving.tier:
        if turn.wish.may_start and not turn.barred(target):
            _begin(turn, target, fresh_key, turn.wish.reason or "wanted")
    elif not turn.barred(serving.tier):
        _renew(turn, serving, fresh_key)


def _turn_back(turn: _Turn, serving: Member | None, going: Member, target: str | None) -> None:
    """Where the old tier is wanted again before it is gone, it serves again: nothing has to start."""
    if serving is None or going.tier != target or serving.tier == target or turn.barred(going.tier):
        return
    if turn.sight(going).up is True:
        turn.move(going, Phase.SERVING, f"serves again: {turn.wish.reason or 'wanted'}")
        turn.move(serving, Phase.DRAINING, "gets no new requests and finishes what it has")


def _long_down(turn: _Turn, member: Member) -> bool:
    return member.down_seconds is not None and turn.now - member.down_seconds > turn.limits.down_seconds


def _renew(turn: _Turn, serving: Member, fresh_key: str) -> None:
    """Start a successor of the same tier where the one that serves hangs or nears its time limit."""
    left = turn.sight(serving).left_seconds
    if _long_down(turn, serving):
        _begin(turn, serving.tier, fresh_key, f"job {serving.job_id} runs and does not answer")
    elif _lost(turn, serving):
        _begin(turn, serving.tier, fresh_key, f"Slurm does not know job {serving.job_id} any more")
    elif left is not None and left < turn.limits.renew_seconds and _past_half(turn, serving, left):
        # Late there is nothing to wait for any more: without a successor the service ends.
        late = left < turn.limits.renew_seconds / 2.0
        if turn.wish.may_start or late:
            _begin(turn, serving.tier, fresh_key, f"job {serving.job_id} has {left:.0f} s left")


def _past_half(turn: _Turn, member: Member, left_seconds: float) -> bool:
    """A job that is shorter than all this takes must not be followed by another as soon as it serves."""
    return member.running_seconds is not None and turn.now - member.running_seconds >= left_seconds


def _begin(turn: _Turn, tier: str, key: str, why: str) -> None:
    member = Member(key=key, tier=tier, phase=Phase.SUBMITTING, since_seconds=turn.now, order=turn.next_order)
    turn.next_order -= 1
    turn.members.append(member)
    turn.notes.append(f"{tier}: is started: {why}")


def _order_acts(turn: _Turn) -> None:
    for member in list(turn.members):
        sight = turn.sight(member)
        if member.phase is Phase.SUBMITTING and not (sight.job_id or sight.refusal):
            turn.acts.append(Submit(key=member.key, tier=member.tier))
        elif member.phase is Phase.WARMING:
            turn.acts.append(WarmUp(key=member.key))
        elif member.phase is Phase.STOPPING and sight.job in (JobSeen.PENDING, JobSeen.RUNNING):
            asked = member.end_asked_seconds
            if asked is None or turn.now - asked > turn.limits.stop_seconds:
                hard = asked is not None or sight.job is JobSeen.PENDING
                turn.put(replace(member, end_asked_seconds=turn.now))
                turn.acts.append(EndJob(key=member.key, job_id=sight.job_id, hard=hard))
