"""The switch under any order of misfortunes: its promises hold in each step, and it comes to rest."""

from dataclasses import dataclass, field, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_power.gateway.members import (
    COMING,
    GOING,
    EndJob,
    JobSeen,
    Member,
    Phase,
    Sight,
    State,
    Submit,
    WarmUp,
    Wish,
)
from slurm_power.gateway.switch import Step, step
from tests.gateway.test_switch import FULL, LIMITS


@dataclass
class World:
    """Jobs and HAProxy as simple as can be, under whatever happens to them."""

    jobs: dict[str, JobSeen] = field(default_factory=dict)
    served: set[str] = field(default_factory=set)
    streams: dict[str, int] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)

    def sight(self, found: Member, *, slurm: bool, haproxy: bool, loads: bool) -> Sight:
        job = self.jobs.get(found.key, JobSeen.ABSENT)
        alive = job is JobSeen.RUNNING and found.key not in self.broken
        known = found.phase in (Phase.READY, Phase.SERVING, *GOING)
        return Sight(
            job=job if slurm else JobSeen.UNKNOWN,
            job_id=found.key if slurm and job is not JobSeen.ABSENT else "",
            address=f"10.0.0.1:{len(self.jobs)}" if alive and slurm else "",
            healthy=alive and loads,
            warmed=alive and loads,
            up=alive if known and haproxy else None,
            open_streams=(self.streams.get(found.key, 0) if alive else 0) if haproxy else None,
        )


EVENTS = st.sampled_from(
    ["nothing"] * 6
    + ["slurm silent", "haproxy gone", "loads slowly", "job dies", "job hangs", "job heals", "job queued"]
    + [
        "stream",
        "streams end",
        "refused",
        "want full",
        "want small",
        "want tiny",
        "want nothing",
        "no room",
        "long",
    ]
)


def play(world: World, state: State, wish: Wish, *, now: float, event: str, pick: int, key: str) -> Step:
    """One look at the world and what it leads to, with the promises checked."""
    keys = [found.key for found in state.members]
    chosen = keys[pick % len(keys)] if keys else ""
    match event:
        case "job dies":
            world.jobs.pop(chosen, None)
        case "job hangs":
            world.broken.add(chosen)
        case "job heals":
            world.broken.discard(chosen)
        case "job queued" if chosen in world.jobs:
            world.jobs[chosen] = JobSeen.PENDING
        case "stream":
            world.streams[chosen] = world.streams.get(chosen, 0) + 1
        case "streams end":
            world.streams.clear()
        case _:
            pass
    sights = {
        found.key: world.sight(
            found,
            slurm=event != "slurm silent",
            haproxy=event != "haproxy gone",
            loads=event != "loads slowly",
        )
        for found in state.members
    }
    done = step(state, sights, wish, LIMITS, now=now, fresh_key=key)
    check_promises(state, sights, done, now)
    for act in done.acts:
        match act:
            case Submit(key=submitted):
                if event != "refused":
                    world.jobs[submitted] = JobSeen.RUNNING
            case EndJob(key=ended):
                world.jobs.pop(ended, None)
            case WarmUp():
                pass
    return done


def check_promises(state: State, sights: dict[str, Sight], done: Step, now: float) -> None:
    after = {found.key: found for found in done.state.members}
    serving = [found for found in done.state.members if found.phase is Phase.SERVING]
    assert len(serving) <= 1
    living = [found for found in done.state.members if found.phase is not Phase.STOPPING]
    assert len(living) <= 2, "two switches at once"
    assert sum(found.phase in COMING for found in living) <= 1
    for found in state.members:
        sight = sights[found.key]
        well = sight.up is True and sight.job is JobSeen.RUNNING
        new = after.get(found.key)
        if found.phase is Phase.SERVING and well:
            assert new is not None
            assert new.phase is Phase.SERVING or (new.phase in GOING and serving), (
                "let go while nothing else serves"
            )
        if found.phase in GOING and new is not None and new.phase is Phase.STOPPING and well:
            other = serving[0]
            assert sights[other.key].up is True, "the last one that answers was let go"
            late = now - found.since_seconds >= LIMITS.stop_seconds
            assert sight.open_streams == 0 or late, "a stream was cut before its time"
    for act in done.acts:
        if isinstance(act, EndJob):
            assert after[act.key].phase is Phase.STOPPING


WANTS = {"want full": "full", "want small": "small", "want tiny": "tiny"}


@given(events=st.lists(st.tuples(EVENTS, st.integers(0, 5)), max_size=60))
@settings(max_examples=300)
def test_whatever_happens_it_keeps_its_promises_and_comes_to_rest(events: list[tuple[str, int]]) -> None:
    world, state, wish, now = World(), State(), FULL, 0.0
    for number, (event, pick) in enumerate(events):
        now += 400.0 if event == "long" else 1.0
        if event in WANTS:
            wish = replace(FULL, tier=WANTS[event])
        elif event == "want nothing":
            wish = Wish(fallbacks=("full",))
        elif event == "no room":
            wish = replace(wish, may_start=False)
        state = play(world, state, wish, now=now, event=event, pick=pick, key=f"k{number}").state
    # From now on nothing goes wrong any more.
    world.streams.clear()
    world.broken.clear()
    world.jobs = dict.fromkeys(world.jobs, JobSeen.RUNNING)
    wish = replace(FULL, tier=wish.tier or "full")
    for number in range(120):
        now += 10.0
        state = play(world, state, wish, now=now, event="nothing", pick=0, key=f"r{number}").state
    assert [(found.tier, found.phase) for found in state.members] == [(wish.tier, Phase.SERVING)]
