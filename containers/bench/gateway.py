"""``python -m containers.bench.gateway``: a tier changed under load, and again with parts killed.

An open load of idempotent requests and long streams on a real HAProxy, a real gateway and two stand-ins for
model servers, one slow and one fast, as plain processes. Exits 1 where a figure is worse than promised. How
Slurm gets its GPUs back is in tests/gateway/test_gateway_slurm.py.
"""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from containers.bench.figure import Figure, markdown
from containers.bench.gateway_load import Load, Request
from containers.bench.gateway_stage import Stage
from containers.bench.measures import percentile

RATE = 150.0
ROUND_TRIPS = 4
STREAMS = 4
EVENTS = 80
AROUND_SECONDS, BESIDE_SECONDS = 1.0, 5.0
MOST_MOVED_SECONDS = 5.0
MOST_P99_RATIO = 1.2
LEAST_REQUESTS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Played:
    """A scenario's load, and the shifts in it: when the new tier was ready, and which it was."""

    name: str
    load: Load
    shifts: tuple[tuple[float, str], ...]
    expected_ends: tuple[str, ...]


async def switched(stage: Stage, load: Load, tier: str) -> None:
    """Have the tier changed, with streams open, and wait until the old one is gone."""
    for _ in range(STREAMS):
        load.stream(EVENTS)
    await asyncio.sleep(BESIDE_SECONDS + AROUND_SECONDS)  # the time before, for comparison
    stage.ask(op="switch", tier=tier)
    await stage.until(lambda: stage.alone(tier), f"{tier} alone", 60.0)


async def both_directions(stage: Stage, load: Load) -> None:
    """Down and up, several times."""
    for _ in range(ROUND_TRIPS):
        await switched(stage, load, "small")
        await switched(stage, load, "full")
    await asyncio.sleep(BESIDE_SECONDS + AROUND_SECONDS)


async def new_server_killed(stage: Stage, load: Load) -> None:
    """The new tier dies just after the shift: the old one serves on, and a second try succeeds."""
    for _ in range(STREAMS):
        load.stream(EVENTS)
    stage.ask(op="switch", tier="small")
    await stage.until(lambda: _last_tier(load) == "digits/small", "answers of the new tier")
    stage.kill_server("small")
    await stage.until(lambda: stage.alone("small"), "the second try", 60.0)


async def old_server_killed(stage: Stage, load: Load) -> None:
    """The old tier dies while it drains: its streams end, each with a named event, and nothing else."""
    for _ in range(STREAMS):
        load.stream(EVENTS)
    stage.ask(op="switch", tier="small")
    await stage.until(lambda: stage.phases() == {"full": "draining", "small": "serving"}, "the drain")
    stage.kill_server("full")
    await stage.until(lambda: stage.alone("small"), "the new tier alone", 60.0)


async def haproxy_replaced(stage: Stage, load: Load) -> None:
    """HAProxy is restarted in the middle of a drain, as after an update: the old one finishes its streams."""
    for _ in range(STREAMS):
        load.stream(EVENTS)
    stage.ask(op="switch", tier="small")
    await stage.until(lambda: stage.phases() == {"full": "draining", "small": "serving"}, "the drain")
    stage.signal_gateway(signal.SIGHUP)
    await stage.until(lambda: stage.alone("small"), "the new tier alone", 60.0)


async def haproxy_killed(stage: Stage, load: Load) -> None:
    """HAProxy is killed in the middle of a drain: clients whose connection breaks send again."""
    for _ in range(STREAMS):
        load.stream(EVENTS)
    stage.ask(op="switch", tier="small")
    await stage.until(lambda: stage.phases() == {"full": "draining", "small": "serving"}, "the drain")
    stage.kill_haproxy()
    await stage.until(lambda: stage.alone("small"), "the new tier alone", 60.0)


async def gateway_killed(stage: Stage, load: Load) -> None:
    """The gateway is killed in each phase of a switch; HAProxy and the servers go on."""
    phases = ("submitting", "starting", "warming", "ready", "serving")
    for _ in range(STREAMS):
        load.stream(EVENTS)
    stage.ask(op="switch", tier="small")
    for number in range(len(phases)):
        later = phases[number:]
        await stage.until(lambda later=later: stage.phases().get("small") in later, later[0])  # type: ignore[misc]  # a default binds it
        stage.signal_gateway(signal.SIGKILL)
        stage.start_gateway()
        await stage.until(lambda: _answers(stage), "the gateway again")
    await stage.until(lambda: stage.alone("small"), "the new tier alone", 60.0)


def _answers(stage: Stage) -> bool:
    with contextlib.suppress(OSError):
        return bool(stage.ask(op="status")["ok"])
    return False


def _last_tier(load: Load) -> str:
    return load.requests[-1].tier if load.requests else ""


SCENARIOS: dict[str, tuple[Callable[[Stage, Load], Awaitable[None]], tuple[str, ...]]] = {
    "both directions": (both_directions, ("whole",)),
    "new server killed after the shift": (new_server_killed, ("whole",)),
    "old server killed in its drain": (old_server_killed, ("named",)),
    "HAProxy replaced in a drain": (haproxy_replaced, ("whole",)),
    "HAProxy killed in a drain": (haproxy_killed, ("cut",)),
    "gateway killed in each phase": (gateway_killed, ("whole",)),
}


async def play(name: str, rate: float) -> Played:
    """One scenario on a stage of its own."""
    scenario, ends = SCENARIOS[name]
    stage = Stage()
    try:
        stage.start_gateway()
        await stage.begun()
        load = Load(port=stage.port, rate=rate)
        running = asyncio.create_task(load.run())
        try:
            await scenario(stage, load)
        finally:
            load.stop()
            await running
        ready = {tier: _ready_times(stage, tier) for tier in ("full", "small")}
    finally:
        stage.close()
    # The first of the full tier is its start, no shift.
    shifts = sorted([(at, "small") for at in ready["small"]] + [(at, "full") for at in ready["full"][1:]])
    return Played(name=name, load=load, shifts=tuple(shifts), expected_ends=ends)


def _ready_times(stage: Stage, tier: str) -> list[float]:
    """When each server of a tier had answered its warm-up, by the gateway's log."""
    lines = [line.split() for line in stage.log().splitlines() if "warm-up is answered" in line]
    return [float(words[0]) for words in lines if words[1] == tier]


def moved_seconds(played: Played) -> list[float]:
    """From each tier's readiness to the begin of the last request that the other one answered."""
    found = []
    for number, (ready, tier) in enumerate(played.shifts):
        ends = played.shifts[number + 1][0] if number + 1 < len(played.shifts) else float("inf")
        others = [
            request.began
            for request in played.load.requests
            if ready <= request.began < ends and request.tier != f"digits/{tier}"
        ]
        found.append(max(others) - ready if others else 0.0)
    return found


def p99_ratios(played: Played) -> tuple[float, str]:
    """p99 around all shifts over the slower of before and after, and the figures in words."""
    requests = played.load.requests
    slower, around = [], []
    words = []
    for tier in ("small", "full"):
        shifts = [at + 0.5 for at, to in played.shifts if to == tier]  # HAProxy's first check is in between
        before = _within(requests, shifts, -BESIDE_SECONDS, -AROUND_SECONDS)
        near = _within(requests, shifts, -AROUND_SECONDS, AROUND_SECONDS)
        after = _within(requests, shifts, AROUND_SECONDS, BESIDE_SECONDS)
        values = [1e3 * percentile(seconds, 0.99) for seconds in (before, near, after)]
        words.append(f"to {tier} " + " / ".join(f"{value:.1f}" for value in values))
        slower.append(max(values[0], values[2]))
        around.append(values[1])
    ratio = max(near / most for near, most in zip(around, slower, strict=True))
    return ratio, "before / around / after: " + ", ".join(words) + " ms"


def _within(requests: list[Request], shifts: list[float], low: float, high: float) -> list[float]:
    return [
        request.seconds
        for request in requests
        if any(at + low <= request.began < at + high for at in shifts) and request.status == 200
    ]


def figures_of(played: Played) -> list[Figure]:
    """What one scenario has to show."""
    load = played.load
    failed = sum(load.failed().values())
    again = sum(request.retries for request in load.requests)
    ends = load.stream_ends()
    unexpected = sum(count for end, count in ends.items() if end not in played.expected_ends)
    figures = [
        Figure(
            what=f"{played.name}: idempotent requests failed",
            value=f"{failed} of {len(load.requests)}, {again} sent again by their client",
            target="0",
            ratio=float(failed),
        ),
        Figure(
            what=f"{played.name}: streams",
            value=", ".join(f"{count} {end}" for end, count in sorted(ends.items())),
            target=f"all {'/'.join(played.expected_ends)}",
            ratio=float(unexpected),
        ),
    ]
    if played.name == "both directions":
        moved = moved_seconds(played)
        ratio, words = p99_ratios(played)
        figures += [
            Figure(
                what=f"{played.name}: from ready to all new requests moved",
                value=f"max {max(moved):.2f} s (n = {len(moved)})",
                target=f"{MOST_MOVED_SECONDS:g} s",
                ratio=max(moved) / MOST_MOVED_SECONDS,
            ),
            Figure(
                what=f"{played.name}: p99 around the switch",
                value=words,
                target="the slower of before and after + 20 %",
                ratio=ratio / MOST_P99_RATIO,
            ),
        ]
    return figures


def main() -> int:
    """Play all scenarios, print the table, write JSON where asked."""
    parser = argparse.ArgumentParser(prog="python -m containers.bench.gateway")
    parser.add_argument("--rate", type=float, default=RATE, help="requests per second")
    parser.add_argument("--json", type=Path, default=None, help="write the figures there, too")
    parser.add_argument("--only", choices=sorted(SCENARIOS), default=None)
    options = parser.parse_args()
    names = [options.only] if options.only else list(SCENARIOS)
    figures = [
        Figure(what="load of the machine before", value=f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    ]
    requests = 0
    for name in names:
        print(f"{name} ...", file=sys.stderr)
        played = asyncio.run(play(name, options.rate))
        requests += len(played.load.requests)
        figures += figures_of(played)
    if options.only is None:
        figures.append(
            Figure(
                what="requests in all",
                value=str(requests),
                target=f">= {LEAST_REQUESTS}",
                ratio=LEAST_REQUESTS / requests,
            )
        )
    print(markdown(figures))
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(figure) for figure in figures], indent=1))
    return int(any(figure.ratio is not None and figure.ratio > 1.0 for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
