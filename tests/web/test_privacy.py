"""Everyone sees totals and their own: for random sites and users, no byte of another's name or job's name."""

import json
import random
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power import clock
from slurm_power.controller.answers.answers import _HANDLERS, answer
from slurm_power.controller.answers.live_answer import live
from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.model.job import Flex, Job
from slurm_power.model.ledger import LedgerEntry
from slurm_power.model.role import Role
from slurm_power.store.sqlite import SqliteStore
from slurm_power.web import cut
from slurm_power.web.table import TABLE
from tests.controller.quiet_queue import QuietQueue
from tests.plan.situations import pending, running
from tests.web.bed import CONFIRM, EVENT, Bed
from tests.web.test_stream import events_of

_USERS, _JOBS = 9, 60
# Who may ask for what at powerctld's socket. A new request must be put into one of these.
FOR_OPERATORS = frozenset(
    (
        *("live", "signals", "alerts", "event", "cancel_event", "yield", "forget_node", "control"),
        *("release_all", "policy_sign", "appeal_answer", "web_redeem"),
    )
)
FOR_ALL_CUT_TO_THEIRS = frozenset(
    (
        *("status", "sources", "ledger", "job", "jobs", "expect", "forecast", "plan", "events"),
        *("event_report", "weights", "policy", "appeals", "lineage"),
    )
)
# They change something of the caller's own, or speak for Slurm, and have tests of their own.
FOR_WHOSE_IT_IS = frozenset(("job_hint", "appeal", "service", "advise", "web_login"))


class Crowd(QuietQueue):
    """Jobs of many users, all with names that stand nowhere else."""

    def __init__(self, seed: int) -> None:
        chance = random.Random(seed)
        self.users = [f"usr{chance.randbytes(6).hex()}" for _ in range(_USERS)]
        made = []
        for number in range(1, _JOBS + 1):
            flex = chance.choice(list(Flex))
            if chance.random() < 0.5:
                job = running(str(number), (chance.choice(("c1", "c2")),), flex=flex)
            else:
                gpu_count = chance.choice((1, 8, 512))
                job = pending(str(number), gpu_count, flex=flex, held_by_user=chance.random() < 0.2)
            name = f"job{chance.randbytes(6).hex()}"
            made.append(replace(job, user=chance.choice(self.users), name=name))
        self._made = tuple(made)

    async def jobs(self) -> tuple[Job, ...]:
        return self._made

    def secrets_from(self, name: str) -> list[str]:
        """What somebody of that name must never read."""
        others = [job for job in self._made if job.user != name]
        return [*{job.user for job in others}, *(job.name for job in others)]


@pytest.fixture(scope="module", params=[1, 2])
def crowded(request: Any) -> Iterator[tuple[Bed, Crowd]]:
    crowd = Crowd(request.param)
    with tempfile.TemporaryDirectory(prefix="sp-web-", dir="/tmp") as folder:
        store = SqliteStore(Path(folder) / "powerctld.sqlite")
        for number, user in enumerate(crowd.users):
            about = LedgerEntry(at=clock.now(), actor="planner", kind="cap", subject="job", reason=user)
            store.append(replace(about, job_id=f"{900 + number}", user=user))
            store.append(replace(about, kind="switch service", subject=f"service:of-{user}", user=user))
        store.put_jobs({"900": {"job_id": "900", "user": crowd.users[0], "name": "x", "state": "ended"}})
        store.close()
        made = Bed(Path(folder), queue=crowd)
        made.web.web.throttle.seconds = 0.01
        with made.client("opal", Role.OPERATOR) as client:
            event = client.post("/api/v1/events", json=EVENT, headers=CONFIRM)
            assert event.status_code == 201, event.text
        yield made, crowd
        made.close()


def assert_nothing_of(told: str, secrets: list[str], where: str) -> None:
    found = [one for one in secrets if one in told]
    assert not found, f"{where} tells {found[:3]}"


@pytest.mark.parametrize("role", [Role.VIEWER, Role.USER])
def test_no_answer_of_the_interface_names_another(crowded: tuple[Bed, Crowd], role: Role) -> None:
    bed, crowd = crowded
    names = crowd.users[:3] if role is Role.USER else ["val"]
    for name in names:
        secrets = crowd.secrets_from(name)
        with bed.client(name, role) as client:
            for one in TABLE:
                if one.method != "GET" or one.name == "stream":
                    continue
                for number in ("1", "2", "900", "901") if "{job_id}" in one.path else ("",):
                    found = client.get(one.path.format(job_id=number, event_id="ev-1"))
                    assert found.status_code in (200, 403, 404, 503), found.text
                    assert_nothing_of(found.text, secrets, f"{one.name} to {role}")
            whole = client.get("/api/v1/ledger", params={"most": 1000})
            assert_nothing_of(whole.text, secrets, "the whole ledger")
            with client.stream("GET", "/api/v1/stream") as answer_:
                found_events = events_of(answer_.iter_lines())
                for _ in range(2):
                    assert_nothing_of(next(found_events)[1], secrets, "the stream")
    with bed.client("carol", Role.AUDITOR) as client:
        assert crowd.users[0] in client.get("/api/v1/ledger", params={"most": 1000}).text


def test_no_answer_of_the_socket_names_another(crowded: tuple[Bed, Crowd]) -> None:
    bed, crowd = crowded
    for name, role in ((crowd.users[0], "user"), (crowd.users[1], "user"), ("val", "viewer")):
        secrets = crowd.secrets_from(name)
        for op in sorted(FOR_ALL_CUT_TO_THEIRS):
            more: dict[str, Any] = {"explain": True, "event_id": "ev-1"}
            for job_id in ("1", "2", "900", "901") if op in ("job", "ledger", "lineage", "jobs") else ("",):
                words = {**more, **({"job_id": job_id} if job_id else {})}
                words = {key: value for key, value in words.items() if op != "weights"}
                found = bed.ask(op=op, **words, **{"for": {"name": name, "role": role, "via": "web"}})
                assert_nothing_of(json.dumps(found), secrets, f"{op} to {role}")


def test_every_request_at_the_socket_is_for_somebody() -> None:
    assert _HANDLERS.keys() == FOR_OPERATORS | FOR_ALL_CUT_TO_THEIRS | FOR_WHOSE_IT_IS
    assert not FOR_OPERATORS & (FOR_ALL_CUT_TO_THEIRS | FOR_WHOSE_IT_IS)


@pytest.mark.parametrize("op", sorted(FOR_OPERATORS))
def test_what_operators_may_nobody_else_may(crowded: tuple[Bed, Crowd], op: str) -> None:
    bed, _ = crowded
    for role in (Role.VIEWER, Role.USER, Role.AUDITOR):
        refused = bed.ask(op=op, **{"for": {"name": "mia", "role": role.value, "via": "web"}})
        assert not refused["ok"] and " may not " in refused["error"], refused

    async def by_uid() -> None:
        with pytest.raises(RefusedError, match=" may not "):
            answer(bed.controller, {"op": op}, Caller(12345))

    bed.do(by_uid())


def test_each_part_of_the_picture_is_for_all_or_for_some(crowded: tuple[Bed, Crowd]) -> None:
    """What is new in it must be put into one of both."""
    bed, _ = crowded

    async def parts() -> set[str]:
        write = live(bed.controller, {"op": "live"}, Caller(0))
        assert callable(write)
        return set(json.loads(write()))

    assert bed.do(parts()) == cut.SHOWN | cut.HIDDEN
    assert not cut.SHOWN & cut.HIDDEN


_NAMES = st.sampled_from(["u-ann", "u-ben", "u-cid", "u-dee"])
_ROW = st.fixed_dictionaries(
    {"user": _NAMES, "name": _NAMES.map(lambda name: f"of {name}"), "job_id": _NAMES}
)


@given(st.lists(_ROW, max_size=6), st.lists(_ROW, max_size=4), st.lists(_ROW, max_size=4), _NAMES, _NAMES)
def test_the_cut_leaves_nobody_elses_name(
    jobs: list[Any], services: list[Any], starts: list[Any], worst: str, me: str
) -> None:
    def own(rows: list[Any]) -> list[Any]:
        return [{**row, "name": f"of {row['user']}", "job_id": f"1 of {row['user']}"} for row in rows]

    picture = {
        "ok": True,
        "site": "lab",
        "jobs": own(jobs),
        "services": own(services),
        "starts": own(starts),
        "jobs_left_off": 3,
        "job_counts": {},
        "alerts": [{"summary": f"rack of {worst}"}],
        "policy": {"author": worst, "number": 1},
        "something_new": worst,
        "fairness": {"jain_index": 1.0, "worst_user": worst, "worst_lost_ratio": 0.1},
    }
    told = json.dumps({**cut.totals(picture), **cut.own(picture, me)})
    assert not [name for name in ("u-ann", "u-ben", "u-cid", "u-dee") if name != me and name in told]
