"""``python -m containers.bench.web``: what hundreds of dashboards cost the control loop, and powerweb itself.

A powerctld of a made-up site (`web_ground`), a powerweb as on a site, 500 browsers with a stream each and 50
calls a second of the interface. The loop is measured for as long without them before. Exits with 1 when a
promise is missed.
"""

import argparse
import asyncio
import contextlib
import json
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import httpx

from containers.bench.figure import Figure, markdown
from containers.bench.processes import usage
from containers.bench.web_ground import site_text
from slurm_power.config import load_site
from slurm_power.model.role import Role
from slurm_power.web.keys import FILE_NAME, Keys

_LOOP_P99_SECONDS = 0.300
_AGE_P99_SECONDS = 3.0
_MEMORY_GROWTH_BYTES = 20e6
_WARM_SECONDS = 10.0
# One browser in so many is an operator's, who sees all jobs.
_OPERATOR_EVERY = 25
_LOOKED_INTO_EVERY = 10
_CALLS = (
    *("live", "live", "me", "me", "events", "sources", "plan", "ledger?most=100", "policy"),
    *("forecast?reach=near", "history?seconds=900", "history?seconds=3600", "ledger?most=50&kind=event"),
)


@dataclass(slots=True)
class Seen:
    """What browsers and programs have seen. ``ages_seconds``: of pictures when they came."""

    byte_count: int = 0
    operator_bytes: int = 0
    pictures: int = 0
    broken: int = 0
    ages_seconds: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    call_seconds: list[float] = field(default_factory=list)


async def watch(port: int, token: str, seen: Seen, *, operator: bool, looked_into: bool) -> None:
    """One browser's stream, until cancelled; what comes is unpacked where it is looked into."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = ("GET /api/v1/stream HTTP/1.1", "Host: bench", "Accept-Encoding: gzip")
    writer.write("\r\n".join((*lines, f"Authorization: Bearer {token}", "", "")).encode())
    try:
        await reader.readuntil(b"\r\n\r\n")
        unpacker = zlib.decompressobj(wbits=31) if looked_into else None
        text = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            data = (await reader.readexactly(size + 2))[:-2]
            seen.byte_count += len(data)
            seen.operator_bytes += len(data) if operator else 0
            if unpacker is None:
                continue
            text += unpacker.decompress(data)
            *events, text = text.split(b"\n\n")
            for event in events:
                if event.startswith(b"event: site\n"):
                    at = datetime.fromisoformat(json.loads(event.partition(b"data: ")[2])["at"])
                    seen.ages_seconds.append((datetime.now(UTC) - at).total_seconds())
                    seen.pictures += 1
        seen.broken += 1
    except (OSError, EOFError, ValueError):
        seen.broken += 1
    finally:
        writer.close()


async def call(client: httpx.AsyncClient, token: str, path: str, seen: Seen) -> None:
    """One call of a program."""
    began = time.monotonic()
    try:
        answer = await client.get(f"/api/v1/{path}", headers={"Authorization": f"Bearer {token}"})
        seen.statuses[answer.status_code] += 1
    except httpx.TransportError:
        seen.statuses[0] += 1
    seen.call_seconds.append(time.monotonic() - began)


async def load(port: int, tokens: dict[str, str], count: int, rate: float, seconds: float) -> Seen:
    """All browsers and programs for a while."""
    seen, names = Seen(), sorted(name for name in tokens if name != "operator")
    watchers = []
    for number in range(count):
        operator = number % _OPERATOR_EVERY == 0
        token = tokens["operator" if operator else names[number % len(names)]]
        looked_into = number % _LOOKED_INTO_EVERY == 1
        watchers.append(
            asyncio.create_task(watch(port, token, seen, operator=operator, looked_into=looked_into))
        )
        await asyncio.sleep(0.002)
    draw = random.Random(1)  # noqa: S311  # the same calls every time
    limits = httpx.Limits(max_connections=100)
    calls: set[asyncio.Task[None]] = set()
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20.0, limits=limits) as client:
        began = time.monotonic()
        for number in range(round(rate * seconds)):
            await asyncio.sleep(max(0.0, began + number / rate - time.monotonic()))
            name = draw.choice(names)
            task = asyncio.create_task(call(client, tokens[name], draw.choice(_CALLS), seen))
            calls.add(task)
            task.add_done_callback(calls.discard)
        if calls:
            await asyncio.wait(calls)
    for task in watchers:
        task.cancel()
    await asyncio.gather(*watchers, return_exceptions=True)
    return seen


@contextlib.contextmanager
def running(*words: str, ready: str = "") -> Iterator["subprocess.Popen[str]"]:
    """A process of ours, ended at the end; waits for its line ``ready``."""
    process = subprocess.Popen([sys.executable, "-m", *words], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        if ready and process.stdout.readline().strip() != ready:
            raise RuntimeError(f"{words[0]} did not come up")
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def answers_on(port: int, process: "subprocess.Popen[str]") -> None:
    """Wait until powerweb answers and has powerctld; raises RuntimeError."""
    for _ in range(300):
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(f"http://127.0.0.1:{port}/api/v1/healthz").json()["powerctld"]:
                return
        if process.poll() is not None:
            break
        time.sleep(0.1)
    raise RuntimeError("powerweb did not come up")


def measure(nodes: int, *, clients: int, rate: float, seconds: float) -> list[Figure]:
    """Set it all up, and take the figures."""
    with tempfile.TemporaryDirectory(prefix="sp-web-") as name:
        folder, port = Path(name), free_port()
        (folder / "site.toml").write_text(site_text(nodes, folder, free_port(), port))
        config = load_site(folder / "site.toml")
        keys, now = Keys(config.controller.state_directory / FILE_NAME), time.time()
        wanted = {f"user{number:03d}": Role.USER for number in range(100)} | {"operator": Role.OPERATOR}
        tokens = {
            user: keys.make_token(user, role, now_seconds=now, seconds=36_000.0)[0]
            for user, role in wanted.items()
        }
        with running("containers.bench.web_ground", name, "--nodes", str(nodes), ready="ready") as ctld:
            time.sleep(_WARM_SECONDS)
            idle, alone = usage([ctld.pid]), time.monotonic()
            time.sleep(seconds)
            idle_seconds = usage([ctld.pid]).cpu_seconds - idle.cpu_seconds
            with running("slurm_power.cli.powerweb", "--config", f"{name}/site.toml") as web:
                answers_on(port, web)
                asyncio.run(load(port, tokens, clients, rate, _WARM_SECONDS))
                before, asked, loaded = usage([web.pid]), usage([ctld.pid]), time.monotonic()
                seen = asyncio.run(load(port, tokens, clients, rate, seconds))
                after, ended = usage([web.pid]), time.monotonic()
                asked_seconds = usage([ctld.pid]).cpu_seconds - asked.cpu_seconds
        cycles = json.loads((folder / "cycles.json").read_text())
    return _figures(
        seen,
        quiet=[(spent, busy) for at, spent, busy in cycles if alone <= at < alone + seconds],
        busy=[(spent, busy) for at, spent, busy in cycles if loaded <= at < ended],
        memory_bytes=after.pss_bytes,
        growth_bytes=after.pss_bytes - before.pss_bytes,
        ctld_ratios=(idle_seconds / seconds, asked_seconds / (ended - loaded)),
        cpu_ratio=(after.cpu_seconds - before.cpu_seconds) / (ended - loaded),
        clients=clients,
        seconds=ended - loaded,
    )


def _at(values: list[float], ratio: float) -> float:
    return values[min(len(values) - 1, int(ratio * len(values)))]


def _figures(
    seen: Seen,
    *,
    quiet: list[tuple[float, float]],
    busy: list[tuple[float, float]],
    memory_bytes: float,
    growth_bytes: float,
    ctld_ratios: tuple[float, float],
    cpu_ratio: float,
    clients: int,
    seconds: float,
) -> list[Figure]:
    ages, calls = sorted(seen.ages_seconds), sorted(seen.call_seconds)
    good = seen.statuses[200]
    wrong = seen.statuses.total() - good + seen.broken
    operators = -(-clients // _OPERATOR_EVERY)
    users_bytes = seen.byte_count - seen.operator_bytes

    def milliseconds(values: list[float]) -> str:
        values = sorted(values)
        return f"{1e3 * statistics.median(values):.0f} ms, p99 {1e3 * _at(values, 0.99):.0f} ms"

    return [
        Figure(
            what="a cycle of the control, nobody watching", value=milliseconds([spent for spent, _ in quiet])
        ),
        Figure(what="its processor time", value=milliseconds([used for _, used in quiet])),
        Figure(
            what=f"a cycle with {clients} browsers and the calls",
            value=milliseconds([spent for spent, _ in busy]),
            target=f"p99 {1e3 * _LOOP_P99_SECONDS:.0f} ms",
            ratio=_at(sorted(spent for spent, _ in busy), 0.99) / _LOOP_P99_SECONDS,
        ),
        Figure(what="its processor time then", value=milliseconds([used for _, used in busy])),
        Figure(
            what="powerctld's processor time, nobody watching and then",
            value=f"{100 * ctld_ratios[0]:.0f} %, {100 * ctld_ratios[1]:.0f} % of a core",
        ),
        Figure(
            what="age of a picture at a browser",
            value=f"{statistics.median(ages):.2f} s, p99 {_at(ages, 0.99):.2f} s",
            target=f"p99 {_AGE_P99_SECONDS:g} s",
            ratio=_at(ages, 0.99) / _AGE_P99_SECONDS,
        ),
        Figure(what="a call of the interface", value=milliseconds(calls)),
        Figure(
            what="calls refused or broken, streams broken",
            value=f"{wrong} of {seen.statuses.total()} and {clients}",
            target="none",
            ratio=float(wrong) + 1.0 if wrong else 0.0,
        ),
        Figure(
            what="to a user's browser",
            value=f"{users_bytes / (clients - operators) / seconds / 1e3:.1f} kB/s",
        ),
        Figure(what="to an operator's", value=f"{seen.operator_bytes / operators / seconds / 1e3:.1f} kB/s"),
        Figure(
            what="powerweb's memory",
            value=f"{memory_bytes / 1e6:.0f} MB PSS, {growth_bytes / 1e6:+.1f} MB in {seconds:.0f} s",
            target=f"{_MEMORY_GROWTH_BYTES / 1e6:+.0f} MB",
            ratio=max(0.0, growth_bytes / _MEMORY_GROWTH_BYTES),
        ),
        Figure(what="powerweb's processor time", value=f"{100 * cpu_ratio:.0f} % of a core"),
    ]


def main() -> int:
    """Measure and print a table; returns 1 when a promise is missed."""
    parser = argparse.ArgumentParser(prog="python -m containers.bench.web", description=__doc__)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--rate", type=float, default=50.0, help="calls a second")
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    figures = measure(
        arguments.nodes, clients=arguments.clients, rate=arguments.rate, seconds=arguments.seconds
    )
    table = json.dumps([asdict(one) for one in figures], indent=1) if arguments.json else markdown(figures)
    print(table)
    return int(any(one.ratio is not None and one.ratio > 1.0 for one in figures))


if __name__ == "__main__":
    sys.exit(main())
