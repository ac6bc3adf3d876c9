"""Users and operators at the controller's socket: a whole controller, real callers, the kernel's word."""

import asyncio
import json
import os
import socket
import subprocess
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurm_power import clock
from slurm_power.config import load_site
from slurm_power.controller.daemon import Controller
from slurm_power.controller.sensing.authority import make_authority
from slurm_power.forecast.job_power import Submission
from slurm_power.model.job import Job
from slurm_power.model.ledger import LedgerEntry
from slurm_power.store.sqlite import SqliteStore
from tests.controller.quiet_queue import QuietQueue
from tests.plan.situations import AT, pending, running

STRANGER = 12345  # a uid without a name: its user is "12345"
SITE = """
[site]
name = "small"
[controller]
listen = "127.0.0.1:{port}"
socket = "{folder}/ctl.sock"
state_directory = "{folder}"
tls_directory = "{folder}/tls"
[policy]
control = false
[circuit.grid]
rating_watts = 60_000
limit_watts = 30_000
limit_kind = "economic"
nodes = ["c1", "c2"]
"""
ASK = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])"
ASK += "; s.sendall(sys.stdin.buffer.read()); print(s.makefile().readline())"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become another user")


class Queue(QuietQueue):
    async def jobs(self) -> tuple[Job, ...]:
        mine = replace(running("1", ("c1",)), user=str(STRANGER))
        return mine, running("2", ("c2",)), pending("3", 8)


@pytest.fixture
def folder(open_folder: Path) -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(dir=open_folder))
    made.chmod(0o755)
    yield made


class Site:
    def __init__(self, controller: Controller, socket_path: Path) -> None:
        self.controller, self.path = controller, socket_path

    async def ask(self, request: dict[str, Any] | bytes, uid: int | None = None) -> dict[str, Any]:
        """Ask as ``uid``, or as whoever runs the tests."""
        data = request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n"
        become = (
            [] if uid is None else ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--"]
        )
        process = await asyncio.create_subprocess_exec(
            *become,
            *("/usr/bin/env", "python3", "-I", "-c", ASK, str(self.path)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd="/",
            env={"PATH": "/usr/bin:/bin"},
        )
        printed, _ = await process.communicate(data)
        found: dict[str, Any] = json.loads(printed) if printed.strip() else {}
        return found


def tried(folder: Path, check: Callable[[Site], Awaitable[None]]) -> None:
    async def run() -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        file = folder / "site.toml"
        file.write_text(SITE.format(port=port, folder=folder))
        make_authority(folder / "tls", "small", ["127.0.0.1"], clock.now())
        store = SqliteStore(folder / "powerctld.sqlite")
        controller = Controller(load_site(file), store, meters={}, storages={}, scheduler=Queue())
        task = asyncio.create_task(controller.run())
        try:
            async with asyncio.timeout(20.0):
                while not controller.telemetry.jobs_known:  # noqa: ASYNC110  # polls what has no event
                    await asyncio.sleep(0.01)
                await check(Site(controller, folder / "ctl.sock"))
        finally:
            controller.stop()
            await task
            store.close()
        assert not (folder / "ctl.sock").exists()

    asyncio.run(run())


def entry(job_id: str | None, user: str | None) -> LedgerEntry:
    return LedgerEntry(
        at=AT, actor="guard", kind="cap", subject=f"job:{job_id}", reason="r", job_id=job_id, user=user
    )


def test_the_plan_is_told_with_its_prices(folder: Path) -> None:
    async def check(site: Site) -> None:
        while site.controller.planned_on is None:  # noqa: ASYNC110  # polls what has no event
            await asyncio.sleep(0.01)
        answer = await site.ask({"op": "plan", "explain": True})
        assert (answer["ok"], answer["mode"]) == (True, "off")
        (grid,) = answer["circuits"]
        assert (grid["circuit"], grid["load_watts"], grid["shadow"]) == ("grid", None, None)
        assert {row["lever"] for row in grid["levers"]} >= {"cap"}
        assert answer["fairness"]["jain_index"] == 1.0
        assert "circuits" not in await site.ask({"op": "plan"})

    tried(folder, check)


@needs_root
def test_users_see_the_site_and_their_own_jobs_only(folder: Path) -> None:
    async def check(site: Site) -> None:
        for job_id, user in (("1", str(STRANGER)), ("2", "alice"), (None, None)):
            site.controller.store.append(entry(job_id, user))
        lease = {"lease_id": "x", "uuid": "u", "state": "verified", "kind": "economic"}
        leases = [{**lease, "job_id": job_id} for job_id in ("1", "2")]
        site.controller.telemetry.node_reported("c1", {"gpus": [], "jobs": [], "leases": leases}, 1e12)

        all_of_it, part = await site.ask({"op": "status"}), await site.ask({"op": "status"}, STRANGER)
        assert [job["job_id"] for job in all_of_it["jobs"]] == ["1", "2", "3"]
        assert [job["job_id"] for job in part["jobs"]] == ["1"]
        assert [lease["job_id"] for lease in part["leases"]] == ["1"]
        assert [circuit["name"] for circuit in part["circuits"]] == ["grid"]
        assert "alice" not in json.dumps(part)

        for request, subjects in (
            ({"op": "ledger"}, {"job:1", "job:None", "site:small", "scheduler", "policy"}),
            ({"op": "ledger", "job_id": "1"}, {"job:1"}),
            ({"op": "ledger", "job_id": "2"}, set()),
        ):
            answer = await site.ask(request, STRANGER)
            assert answer["ok"] and not answer["more"]
            found = {one["subject"] for one in answer["entries"]}
            assert found <= subjects and ("job:1" in found) == ("job:1" in subjects)
        site.controller.store.put_jobs({"90": {"user": "alice", "energy_joules": 5.0}, "91": {"user": "x"}})
        site.controller.store.put_jobs({"92": {"user": str(STRANGER), "energy_joules": 6.0}})
        records = [
            await site.ask({"op": "job", "job_id": one}, STRANGER) for one in ("1", "90", "92", "93", None)
        ]
        assert [answer["record"].get("user") for answer in records] == [
            str(STRANGER),
            None,
            str(STRANGER),
            None,
            None,
        ]
        assert (await site.ask({"op": "job", "job_id": "90"}))["record"]["energy_joules"] == 5.0
        everything = await site.ask({"op": "ledger"})
        assert "job:2" in {one["subject"] for one in everything["entries"]}
        assert everything["checked_sequence"] == len(everything["entries"])

    tried(folder, check)


EVENT = {"op": "event", "circuit": "grid", "limit_watts": 9000, "duration_seconds": 60, "reason": "utility"}


@needs_root
def test_only_operators_announce_events_and_switch_the_control(folder: Path) -> None:
    async def check(site: Site) -> None:
        for request in (
            EVENT,
            {"op": "cancel_event", "event_id": "ev-1"},
            {"op": "control", "enabled": True, "reason": "r"},
        ):
            refused = await site.ask(request, STRANGER)
            assert not refused["ok"] and "only root" in refused["error"]
        assert site.controller.mode == "off"
        assert site.controller.levers.events == {}
        assert (await site.ask(EVENT))["event_id"] == "ev-1"
        (event,) = (await site.ask({"op": "status"}, STRANGER))["events"]
        assert event["reason"] == "utility"
        assert (await site.ask({"op": "cancel_event", "event_id": "ev-1"}))["ok"]
        assert not (await site.ask({"op": "cancel_event", "event_id": "ev-1"}))["ok"]
        switch = {"op": "control", "enabled": True, "reason": "tried"}
        assert (await site.ask(switch))["mode"] == "control"

    tried(folder, check)


@pytest.mark.parametrize(
    "request_line",
    [
        b"\n",
        b"[]\n",
        b"{}\n",
        b"\xff\xfe\n",
        b'{"op":["status"]}\n',
        b'{"op":"ledger","after_sequence":1e300}\n',
        b'{"op":"ledger","after_sequence":true}\n',
        b'{"op":"ledger","since_seconds":1e300}\n',
        b'{"op":"ledger","since_seconds":NaN}\n',
        b'{"op":"ledger","since_seconds":1' + b"0" * 400 + b"}\n",
        b'{"op":"ledger","since_seconds":-1e12}\n',
        b'{"op":"ledger","job_id":"\\ud800"}\n',
        b'{"op":"control","enabled":"no"}\n',
        json.dumps({**EVENT, "reason": "\ud800"}).encode() + b"\n",
        json.dumps({**EVENT, "limit_watts": 10**400}).encode() + b"\n",
        json.dumps({**EVENT, "circuit": "moon", "duration_seconds": 0, "reason": " "}).encode() + b"\n",
    ],
    ids=range(16),
)
def test_odd_requests_get_a_refusal_and_change_nothing(folder: Path, request_line: bytes) -> None:
    async def check(site: Site) -> None:
        answer = await site.ask(request_line)
        assert answer["ok"] is False
        assert answer["error"]
        assert site.controller.levers.events == {}
        assert (await site.ask({"op": "status"}))["ok"]

    tried(folder, check)


@needs_root
def test_only_operators_yield_a_node_and_it_has_an_end(folder: Path) -> None:
    async def check(site: Site) -> None:
        wanted = {"op": "yield", "node": "c1", "seconds": 60, "reason": "a benchmark"}
        assert "may not" in (await site.ask(wanted, STRANGER))["error"]
        wrong = (await site.ask({"op": "yield", "node": "c9", "seconds": 1e9}))["error"]
        assert all(name in wrong for name in ("node:", "seconds:", "reason:"))
        assert site.controller.levers.yields == {}
        assert (await site.ask(wanted))["ok"]
        (row,) = (await site.ask({"op": "status"}, STRANGER))["yields"]
        assert (row["node"], row["reason"]) == ("c1", "a benchmark")
        assert 50.0 < row["ends_in_seconds"] <= 60.0
        assert site.controller.snapshot().yielded_nodes == {"c1"}
        assert (await site.ask({**wanted, "seconds": 0}))["ok"]
        assert (await site.ask({"op": "status"}))["yields"] == []
        kinds = [entry["kind"] for entry in (await site.ask({"op": "ledger"}))["entries"]]
        assert [kind for kind in kinds if "yield" in kind] == ["yield", "yield over"]

    tried(folder, check)


def test_a_long_look_back_is_a_look_at_everything(folder: Path) -> None:
    async def check(site: Site) -> None:
        answer = await site.ask({"op": "ledger", "since_seconds": 9e11})
        assert answer["ok"] and answer["entries"]

    tried(folder, check)


def test_a_caller_that_says_too_much_or_nothing_is_hung_up_on(folder: Path) -> None:
    async def check(site: Site) -> None:
        assert await site.ask(b"x" * 200_000) == {}
        reader, writer = await asyncio.open_unix_connection(site.path)
        assert await reader.read() == b""  # after the five seconds of docs/protocol.md
        writer.close()

    tried(folder, check)


class Hog:
    """A user with 300 connections, each with the same request, who reads no answer."""

    CODE = (
        "import socket,sys,time; found=[socket.socket(socket.AF_UNIX) for _ in range(300)]\n"
        "for s in found: s.connect(sys.argv[1])\n"
        "for s in found:\n"
        "    try: s.sendall(sys.argv[2].encode())\n"
        "    except OSError: pass\n"
        "print('done', flush=True); time.sleep(60)"
    )

    def __init__(self, path: Path, request: str) -> None:
        self._words = ["setpriv", f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups", "--"]
        self._words += ["/usr/bin/env", "python3", "-I", "-c", self.CODE, str(path), request]
        self.before = self.descriptors()

    @staticmethod
    def descriptors() -> int:
        """How many this process, which has the controller, holds open."""
        return len(list(Path("/proc/self/fd").iterdir()))

    async def settled(self, most: int, seconds: float) -> None:
        """Wait until the controller holds no more than ``most`` descriptors for it."""
        async with asyncio.timeout(seconds):
            while self.descriptors() > self.before + most:  # noqa: ASYNC110  # polls what has no event
                await asyncio.sleep(0.05)

    async def __aenter__(self) -> "Hog":
        self._process = await asyncio.create_subprocess_exec(*self._words, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        await self._process.stdout.readline()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._process.kill()
        await self._process.wait()


@needs_root
def test_no_user_can_take_all_places(folder: Path) -> None:
    async def check(site: Site) -> None:
        async with Hog(site.path, "") as hog:
            await hog.settled(30, seconds=2.0)
            assert (await site.ask({"op": "status"}))["ok"]
            await hog.settled(8, seconds=10.0)
            assert (await site.ask({"op": "status"}, uid=STRANGER))["ok"]

    tried(folder, check)


@needs_root
def test_answers_that_nobody_reads_are_not_kept(folder: Path) -> None:
    async def check(site: Site) -> None:
        long = replace(entry(None, None), reason="x" * 2000)
        for _ in range(400):
            site.controller.store.append(long)
        async with Hog(site.path, '{"op":"ledger"}\n') as hog:
            await hog.settled(8, seconds=10.0)

    tried(folder, check)


@needs_root
def test_a_user_asks_about_jobs_of_their_own_only(folder: Path) -> None:
    async def check(site: Site) -> None:
        powers = site.controller.expectations._powers
        for user, watts in ((str(STRANGER), 300.0), ("alice", 600.0)):
            told = Submission(user=user, account="secret", name="x", workload="training", gpus=8.0)
            for _ in range(5):
                powers.ended(told, watts)
        request = {"op": "expect", "name": "x", "gpus": 8, "workload": "training", "flex": "flex2"}
        own = (await site.ask(request, STRANGER))["expected"]
        assert own["expected_mean_watts"] == pytest.approx(300.0, abs=10.0)
        assert (own["expected_jobs"], own["flex"]) == (5, "flex2")
        others = await site.ask({**request, "user": "alice"}, STRANGER)
        assert others == {"ok": False, "error": f"{STRANGER} may not ask what jobs of alice draw"}
        hers = (await site.ask({**request, "user": "alice"}))["expected"]
        assert hers["expected_mean_watts"] == pytest.approx(600.0, abs=10.0)
        # An account may have one user: its jobs are told to its own people only.
        nosy = {**request, "account": "secret", "name": "y"}
        assert (await site.ask({**nosy, "user": "zoe"}))["expected"]["expected_known_from"].endswith(
            "account"
        )
        no_gpus = await site.ask({"op": "expect", "name": "y"}, STRANGER)
        assert (no_gpus["held"], no_gpus["site_watts"]) == (False, None)
        wrong = {
            "op": "expect",
            "gpus": -1,
            "workload": "x",
            "flex": 7,
            "name": ["a"],
            "time_limit_seconds": "1",
        }
        error = (await site.ask(wrong, STRANGER))["error"]
        for key in ("gpus", "workload", "flex", "name", "time_limit_seconds"):
            assert f"{key}: " in error

    tried(folder, check)


@needs_root
def test_what_a_user_would_ask_for_counts(folder: Path) -> None:
    async def check(site: Site) -> None:
        asked = {"op": "expect", "gpus": 8, "flex": "flex3", "time_limit_seconds": 3600}
        plain = await site.ask(asked)
        short = await site.ask({**asked, "max_hold_seconds": 60, "cap_watts": 400})
        assert (plain["longest_hold_seconds"], short["longest_hold_seconds"]) == (1800, 60)
        assert short["site_watts"] == plain["site_watts"] - 8 * 250
        assert (await site.ask({**asked, "finish_by_in_seconds": 1}))["longest_hold_seconds"] == 0
        wrong = {"max_hold_seconds": -1, "cap_watts": "x", "finish_by_in_seconds": 1e99}
        error = (await site.ask({**asked, **wrong}))["error"]
        assert all(f"{key}: " in error for key in wrong)

    tried(folder, check)
