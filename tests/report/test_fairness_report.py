"""The report on fairness: known losses, cut at the span's ends, with promises, appeals and pseudonyms."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from slurm_power.model.ledger import LedgerEntry
from slurm_power.report.audit.proof import chain_proof
from slurm_power.report.fairness.fairness import Fairness, JobLoss, event_losses, fairness
from slurm_power.report.fairness.fairness_document import FairnessReport, fairness_document, without_names
from slurm_power.report.fairness.fairness_reading import job_losses, read_events, read_ledger
from slurm_power.report.frame.document import document_json, render_html, table_csv
from slurm_power.report.site_facts import SiteFacts
from slurm_power.store.sqlite import SqliteStore

SINCE = datetime(2026, 11, 1, tzinfo=UTC)
UNTIL = datetime(2026, 12, 1, tzinfo=UTC)
NOW = datetime(2026, 12, 5, tzinfo=UTC)
HOUR = timedelta(hours=1)
EVIL = '=cmd|"<script>alert(1)</script>\x1b[2J'


def entry(at: datetime, kind: str, job: str, user: str = "alice", **more: object) -> LedgerEntry:
    actor = str(more.pop("actor", "guard"))
    reason = str(more.pop("reason", "grid is full"))
    return LedgerEntry(
        at=at,
        actor=actor,
        kind=kind,
        subject=f"job:{job}",
        reason=reason,
        job_id=job,
        user=user,
        details=more,
    )


def record(job: str, user: str, start: datetime, hours: float, **more: object) -> Mapping[str, object]:
    made: dict[str, object] = {
        "job_id": job,
        "user": user,
        "account": f"{user}-lab",
        "flex": "flex2",
        "state": "ended",
        "gpu_count": 8,
        "submitted": (start - HOUR).isoformat(),
        "started": start.isoformat(),
        "ended": (start + hours * HOUR).isoformat(),
    }
    return made | more


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    made = SqliteStore(tmp_path / "powerctld.sqlite")
    middle, edge = SINCE + timedelta(days=10), SINCE - 2 * HOUR
    made.put_jobs(
        {
            "1": record("1", "alice", middle, 10.0, slowdown_seconds=3600.0, capped_seconds=18_000.0),
            "2": record("2", "bob", middle, 10.0),
            # From two hours before the month to four hours in it; the cap stood from -1 h to +3 h.
            "3": record("3", EVIL, edge, 6.0, slowdown_seconds=2880.0, capped_seconds=14_400.0),
            "4": record("4", "bob", UNTIL - 0.5 * HOUR, 2.0, held_seconds=1800.0),
            "5": record("5", "carol", middle, 1.0, flex="flex1", slowdown_seconds=720.0,
                        breached_seconds=1800.0, paused_seconds=100.0),
            "6": {"job_id": "6", "user": "dave", "gpu_count": 4, "state": "pending", "flex": "flex3",
                  "submitted": (UNTIL - 2 * HOUR).isoformat(), "held_seconds": 7200.0},
            "7": record("7", "erin", SINCE - timedelta(days=5), 1.0, slowdown_seconds=999.0),
        }
    )  # fmt: skip
    cap = {"slowdown_ratio": 0.2, "limit_kind": "economic"}
    made.append(entry(SINCE - HOUR, "cap", "3", EVIL, **cap))
    made.append(entry(SINCE + 3 * HOUR, "uncap", "3", EVIL))
    made.append(entry(middle, "cap", "5", "carol", slowdown_ratio=0.4, limit_kind="safety"))
    made.append(entry(middle + HOUR, "appeal", "5", "carol", actor="user:carol", appeal_id="ap-1", text=EVIL))
    made.append(entry(UNTIL - HOUR, "hold", "6", "dave", seconds=60))
    made.append(
        entry(
            UNTIL + HOUR,
            "appeal answered",
            "5",
            "carol",
            actor="operator:root",
            appeal_id="ap-1",
            text="sorry",
        )
    )
    made.append(entry(UNTIL + HOUR, "release", "6", "dave"))
    made.append(entry(UNTIL + 2 * HOUR, "appeal", "6", "dave", appeal_id="ap-2", text="too late"))
    past = [{"event_id": "ev-1", "starts_at": middle.isoformat()}, "nonsense"]
    made.put_state("events_past", [*past, {"event_id": "ev-2", "starts_at": UNTIL.isoformat()}])
    eight = {"gpu_count": 8}
    jobs = [
        eight | {"job_id": "1", "user": "alice", "lost_gpu_hours": 3.0, "held_seconds": 0.0},
        eight | {"job_id": "4", "user": "bob", "lost_gpu_hours": 0.0, "held_seconds": 450.0},
    ]
    made.put_state("event_report.ev-1", {"jobs": jobs})
    made.put_state("event_report.ev-2", {"jobs": jobs})
    return made


def found(store: SqliteStore) -> Fairness:
    ledger = read_ledger(store, SINCE, UNTIL)
    return fairness(job_losses(store, ledger, SINCE, UNTIL, now=NOW), wait_lost_ratio=0.5)


def report(store: SqliteStore) -> FairnessReport:
    return FairnessReport(
        fair=found(store),
        events=read_events(store, SINCE, UNTIL),
        appeals=read_ledger(store, SINCE, UNTIL).appeals,
        site=SiteFacts(name="lab", wait_lost_ratio=0.5),
        since=SINCE,
        until=UNTIL,
        span_words="2026-11",
        proof=chain_proof(store.rows()),
        made_at=NOW,
    )


def test_losses_of_the_month_are_those_that_lie_in_it(store: SqliteStore) -> None:
    jobs = {job.job_id: job for job in found(store).jobs}
    assert jobs.keys() == {"1", "3", "4", "5", "6"}, "erin's job was over before, bob's first was not touched"
    assert next(share for share in found(store).users if share.name == "bob").jobs == 2
    assert jobs["1"].slowed_seconds == 3600.0 and jobs["1"].method == ""
    assert jobs["1"].lost_gpu_seconds == 8 * 3600.0
    # Three of the cap's four hours lie in the month, and four of the run's six.
    assert jobs["3"].slowed_seconds == pytest.approx(0.75 * 2880.0)
    assert (jobs["3"].ran_seconds, jobs["3"].method) == (4 * 3600.0, "cut by the ledger")
    assert jobs["4"].ran_seconds == 1800.0
    assert jobs["4"].method == "cut evenly in time" and jobs["4"].held_seconds == pytest.approx(900.0)
    assert jobs["6"].held_seconds == pytest.approx(3600.0), "one of the two hours it was held"
    assert jobs["5"].waited_seconds == 3600.0


def test_the_index_is_that_of_the_planner_over_the_span(store: SqliteStore) -> None:
    fair = found(store)
    lost = {"alice": 8 * 3600.0, "bob": 0.5 * 900.0 * 8, "carol": 820.0 * 8, EVIL: 2160.0 * 8,
            "dave": 0.5 * 3600.0 * 4}  # fmt: skip
    had = {"alice": 8 * 36_000.0, "bob": 8 * (36_000.0 + 1800.0 + 900.0), "carol": 8 * 3600.0,
           EVIL: 8 * 14_400.0, "dave": 4 * 3600.0}  # fmt: skip
    ratios = {user: lost[user] / (had[user] + 3600.0) for user in lost}
    assert {share.name: share.lost_ratio for share in fair.users} == pytest.approx(ratios)
    kept = [1.0 - ratio for ratio in ratios.values()]
    assert fair.jain_index == pytest.approx(sum(kept) ** 2 / (len(kept) * sum(k * k for k in kept)))
    assert fair.worst is not None and fair.worst.name == max(ratios, key=lambda user: ratios[user])
    alice = next(share for share in fair.users if share.name == "alice")
    assert alice.own_ratio == pytest.approx(0.1)


def test_exceeded_promises_are_told_with_their_ledger_entries(store: SqliteStore) -> None:
    (breached,) = found(store).breached
    assert (breached.job_id, breached.breached_seconds, breached.breaches) == ("5", 1800.0, (3,))
    document = fairness_document(report(store))
    assert document.tables["promises"].rows == (("5", "carol", "flex1", 1800.0, "3"),)
    check = document.checks[0]
    assert not check.good and "4 of 5 jobs" in check.detail


def test_appeals_of_the_span_have_the_answers_that_came_later(store: SqliteStore) -> None:
    (note,) = report(store).appeals
    assert (note.appeal_id, note.job_id, note.user, note.text) == ("ap-1", "5", "carol", EVIL)
    assert (note.answer, note.answered_by) == ("sorry", "operator:root")


def test_each_users_part_of_each_event(store: SqliteStore) -> None:
    rows = read_events(store, SINCE, UNTIL)
    assert [(row.event_id, row.user, row.share_ratio) for row in rows] == [
        ("ev-1", "alice", 0.75), ("ev-1", "bob", 0.25)]  # fmt: skip
    assert event_losses("ev-9", [{"user": "x"}, {"lost_gpu_hours": "many"}]) == []


def test_pseudonyms_are_stable_and_nothing_leads_to_a_name(store: SqliteStore) -> None:
    made = without_names(report(store))
    text = repr(document_json(fairness_document(made))) + render_html(fairness_document(made))
    for name in ("alice", "bob", "carol", "dave", "cmd", "sorry", "operator:"):
        assert name not in text.replace("'s", ""), name
    by_job = {job.job_id: job.user for job in made.fair.jobs}
    assert set(by_job.values()) <= {share.name for share in made.fair.users}
    lost = {share.name: share.lost_ratio for share in found(store).users}
    for named, share in zip(found(store).users, made.fair.users, strict=True):
        assert share.lost_ratio == lost[named.name]
    assert {one.user for one in made.events} <= {share.name for share in made.fair.users}
    assert made.fair.jain_index == found(store).jain_index


def test_hostile_names_do_no_harm(store: SqliteStore) -> None:
    document = fairness_document(report(store))
    page = render_html(document)
    assert "<script>" not in page and "\x1b" not in page
    cells = table_csv(document.tables["users"])
    assert "\x1b" not in cells and "\n=cmd" not in cells and ",=cmd" not in cells


def test_nothing_at_all(tmp_path: Path) -> None:
    empty = SqliteStore(tmp_path / "powerctld.sqlite")
    fair = found(empty)
    assert (fair.users, fair.jain_index, fair.worst) == ((), 1.0, None)
    document = fairness_document(report(empty))
    assert document.checks[0].good
    assert render_html(document)


def test_shares_are_zero_where_nothing_was_taken() -> None:
    quiet = JobLoss(job_id="1", user="a", account="x", flex="flex0", gpu_count=1, ran_seconds=10.0)
    fair = fairness([quiet], 1.0)
    assert fair.users[0].lost_ratio == 0.0 and fair.worst is None and fair.jain_index == 1.0
