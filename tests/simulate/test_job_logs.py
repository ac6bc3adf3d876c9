"""Readers of job logs: sacct, SWF; what is left out is counted, what cannot be is told with its line."""

from datetime import UTC, datetime, timedelta, timezone

import pytest

from slurm_power.model.job import Flex, Workload
from slurm_power.simulate.job_logs import JobLogError, looks_like, read_sacct, read_swf

HEADER = "JobID|User|Account|State|Submit|Start|End|Timelimit|AllocTRES|ReqTRES|AdminComment"


def sacct(*rows: str) -> list[str]:
    return [HEADER, *rows]


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def test_a_job_of_sacct_with_all_it_says() -> None:
    comment = '{"power": {"workload": "inference", "flex": "flex2"}}'
    log = read_sacct(
        sacct(
            "12|alice|phys|COMPLETED|2026-01-02T03:00:00|2026-01-02T04:00:00|2026-01-02T05:30:00|"
            f"1-02:00:00|cpu=8,gres/gpu:h100=8,gres/gpu=8,mem=1G|gres/gpu=8|{comment}"
        ),
        "log",
        UTC,
    )
    (job,) = log.jobs
    assert (job.job_id, job.user, job.account, job.gpus) == ("12", "alice", "phys", 8)
    assert job.submit_seconds == seconds("2026-01-02T03:00:00")
    assert job.start_seconds == seconds("2026-01-02T04:00:00")
    assert job.run_seconds == 5400.0
    assert job.limit_seconds == 26 * 3600.0
    assert (job.workload, job.flex) == (Workload.INFERENCE, Flex.FLEX2)


ROW = "{id}|bob|bio|{state}|2026-01-02T03:00:00|{start}|{end}|{limit}|{tres}||"
GOOD = {
    "id": "7",
    "state": "COMPLETED",
    "start": "2026-01-02T04:00:00",
    "end": "2026-01-02T05:00:00",
    "limit": "02:00:00",
    "tres": "gres/gpu=4",
}


def row(**changed: str) -> str:
    return ROW.format(**(GOOD | changed))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"id": "7.batch"}, "a step"),
        ({"id": "7.0"}, "a step"),
        ({"state": "PENDING", "start": "Unknown", "end": "Unknown"}, "never started"),
        ({"state": "CANCELLED by 1000", "start": "None"}, "never started"),
        ({"state": "CANCELLED by 1000", "end": "2026-01-02T04:00:00"}, "never started"),
        ({"tres": "cpu=4,mem=8G"}, "no GPUs"),
        ({"end": "2026-01-02T04:00:00"}, "ran no time"),
    ],
)
def test_what_is_left_out_is_counted(changed: dict[str, str], why: str) -> None:
    log = read_sacct(sacct(row(), row(**changed)), "log", UTC)
    assert len(log.jobs) == 1
    assert log.notes == (f"1 left out: {why}",)


def test_typed_gpus_are_added_up_where_no_sum_is_given() -> None:
    log = read_sacct(sacct(row(tres="gres/gpu:a100=2,gres/gpu:h100=4")), "log", UTC)
    assert log.jobs[0].gpus == 6


def test_a_job_that_still_ran_ends_at_its_limit_or_with_the_log() -> None:
    log = read_sacct(
        sacct(
            row(),
            row(id="8", state="RUNNING", end="Unknown"),
            row(id="9", state="RUNNING", end="Unknown", limit="UNLIMITED"),
        ),
        "log",
        UTC,
    )
    assert [job.run_seconds for job in log.jobs] == [3600.0, 7200.0, 3600.0]


def test_arrays_and_requeued_jobs_have_ids_of_their_own() -> None:
    log = read_sacct(sacct(row(id="5_1"), row(id="5_2"), row(), row()), "log", UTC)
    assert sorted(job.job_id for job in log.jobs) == ["5_1", "5_2", "7", "7#2"]


def test_times_without_a_zone_are_the_sites() -> None:
    east = timezone(timedelta(hours=2))
    here, there = (read_sacct(sacct(row()), "log", zone).jobs[0] for zone in (UTC, east))
    assert here.submit_seconds - there.submit_seconds == 7200.0


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["JobID|User|State"], "lacks Submit, Start, End, AllocTRES"),
        ([HEADER], "it has no job"),
        (sacct(row(start="yesterday")), "line 2: Start 'yesterday' is no time"),
        (sacct(row(end="1767326400000")), "line 2: End '1767326400000' is no epoch seconds"),
        ([HEADER, "7|||COMPLETED|2026-01-02T03:00:00|2026-01-02T04:00:00|2026-01-02T05:00:00||gres/gpu=1||"],
         "line 2: job 7: User is empty"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_told(lines: list[str], told: str) -> None:
    with pytest.raises(JobLogError) as raised:
        read_sacct(lines, "log", UTC)
    assert told in str(raised.value)


SWF = "{number} {submit} {wait} {run} {used} -1 -1 {asked} {limit} -1 {status} {user} {group} -1 1 1 -1 -1"
SWF_GOOD = {
    "number": 1, "submit": 100, "wait": 20, "run": 600, "used": 4, "asked": 4, "limit": 3600, "status": 1,
    "user": 3, "group": 2,
}  # fmt: skip


def swf(**changed: int) -> str:
    return SWF.format(**(SWF_GOOD | changed))


def test_a_job_of_swf() -> None:
    log = read_swf(["; UnixStartTime: 1000", "; MaxProcs: 100", "", swf()], "log", 8.0)
    (job,) = log.jobs
    assert (job.submit_seconds, job.start_seconds, job.run_seconds) == (1100.0, 1120.0, 600.0)
    assert (job.gpus, job.user, job.account, job.limit_seconds) == (32, "3", "2", 3600.0)
    assert job.watts_per_gpu is None


def test_unknown_fields_of_swf() -> None:
    log = read_swf([swf(wait=-1, used=-1, asked=2, limit=-1, user=-1)], "log")
    (job,) = log.jobs
    assert job.start_seconds is None
    assert (job.gpus, job.limit_seconds, job.user) == (2, None, "unknown")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"run": -1}, "never started"),
        ({"run": 0, "status": 5}, "never started"),
        ({"used": -1, "asked": -1}, "never started"),
        ({"status": 3}, "a part of a checkpointed job"),
    ],
)
def test_swf_lines_left_out(changed: dict[str, int], why: str) -> None:
    log = read_swf([swf(), swf(**changed)], "log")
    assert len(log.jobs) == 1
    assert log.notes == (f"1 left out: {why}",)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("1 2 3", "line 2: 3 fields; the format has 18"),
        (swf().replace(" 600 ", " many "), "line 2: not all of its fields are numbers"),
        (swf(submit=-5), "line 2: its submit time is negative"),
        ("; UnixStartTime: 1700000000000", "line 2: UnixStartTime is no epoch seconds"),
        (swf(submit=900_000_000_000), "line 2: its submit time 900000000000 is no seconds"),
        (swf(submit=90_000_000_000), "2852 years lie between"),
        (swf().replace(" 600 ", " nan "), "line 2: a field is no number that can be"),
    ],
)
def test_swf_lines_that_cannot_be_are_told(line: str, told: str) -> None:
    with pytest.raises(JobLogError) as raised:
        read_swf([swf(), line], "log")
    assert told in str(raised.value)


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (HEADER, "sacct"),
        ("; Version: 2.2", "swf"),
        (swf(), "swf"),
        ("submit,start,end,reqt,gpus,kw_per_gpu,user", "csv"),
        ("", "csv"),
    ],
)
def test_the_kind_is_told_by_the_first_line(line: str, kind: str) -> None:
    assert looks_like(["", line]) == kind
