"""Jobs from recorded output of each Slurm version, and the small readers on rows of their own."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from slurm_power.model.job import Flex, JobState, Workload
from slurm_power.slurm.parse import (
    FIELDS,
    JobReader,
    parse_squeue,
    squeue_format,
    task_count,
    time_limit_seconds,
)

RECORDED = sorted((Path(__file__).parent / "recorded").glob("*/squeue.txt"))
MARK = "~rec~"


def made(**values: str) -> str:
    """One job as squeue would print it."""
    usual = {"JobID": "7", "State": "PENDING", "NumNodes": "2", "NumTasks": "4"}
    fields = usual | values
    return "".join(f"{fields.get(name, 'N/A')}{MARK}{index};" for index, name in enumerate(FIELDS)) + "\n"


@pytest.mark.parametrize("file", RECORDED, ids=lambda file: file.parent.name)
class TestRecorded:
    def test_every_job_is_read(self, file: Path) -> None:
        records = {record.job.job_id: record for record in parse_squeue(file.read_text(), MARK)}
        jobs = {job_id: record.job for job_id, record in records.items()}

        running = jobs["16"]
        assert running.name == "a name|with =JobState=X"
        assert (running.state, running.gpu_count, running.nodes) == (JobState.RUNNING, 4, ("c1", "c2"))
        assert running.started == datetime(2026, 11, 23, 23, 46, 32, tzinfo=UTC)
        assert running.time_limit_seconds == 600

        tagged = jobs["17"]
        assert (tagged.workload, tagged.flex, tagged.account) == (Workload.INFERENCE, Flex.FLEX3, "science")

        later = jobs["18"]
        assert (later.gpu_count, later.state, later.started) == (4, JobState.PENDING, None)
        assert later.begin == datetime(2026, 11, 24, 1, 46, 32, tzinfo=UTC)

        waiting_tasks = jobs["19"]
        assert (waiting_tasks.task_count, waiting_tasks.gpu_count) == (23, 1)
        assert records["19"].update_id.startswith("19_[5,7,100,103,")
        assert jobs["28"].state is JobState.RUNNING
        assert jobs["28"].task_count == 1

        assert jobs["20"].name == "new\n99 line"
        assert jobs["20"].held_by_user
        assert "99" not in jobs
        assert [records[job_id].update_id for job_id in ("21", "22")] == ["21", "21"]
        assert jobs["24"].gpu_count == 4
        assert jobs["23"].state is JobState.SUSPENDED
        assert jobs["30"].state is JobState.ENDING
        assert {jobs[job_id].state for job_id in ("25", "26", "27")} == {JobState.ENDED}

    def test_output_cut_anywhere_is_refused_or_whole(self, file: Path) -> None:
        text = file.read_text()
        whole = parse_squeue(text, MARK)
        for length in range(0, len(text), 37):
            try:
                records = parse_squeue(text[:length], MARK)
            except ValueError:
                continue
            assert records == whole[: len(records)]


def test_a_zero_is_no_mark() -> None:
    with pytest.raises(ValueError, match="holds a zero"):
        parse_squeue(made(Name="x\0000;"), MARK)


def test_a_name_cannot_forge_another_job() -> None:
    text = made(Name=f"x\n8{MARK[:-1]}0;RUNNING", admin_comment="{}")
    (record,) = parse_squeue(text, MARK)
    assert record.job.job_id == "7"


def test_a_field_the_version_does_not_know_is_missing() -> None:
    index = FIELDS.index("tres-per-socket")
    (record,) = parse_squeue(made(**{"tres-alloc": "gres/gpu=3"}).replace(f"N/A{MARK}{index};", ""), MARK)
    assert record.job.gpu_count == 3


def test_an_unknown_state_means_hands_off() -> None:
    (record,) = parse_squeue(made(State="HYPERSPACE"), MARK)
    assert record.job.state is JobState.ENDING


def test_prolog_is_starting() -> None:
    (record,) = parse_squeue(made(State="RUNNING", Reason="Prolog", NodeList="c1"), MARK)
    assert record.job.state is JobState.STARTING


@pytest.mark.parametrize(
    ("key", "tres", "kind"),
    [
        ("tres-alloc", "cpu=4,gres/gpu=6,gres/gpu:h100=6", "h100"),
        ("tres-alloc", "cpu=4,gres/gpu:h100=2,gres/gpu:a100=1", ""),
        ("tres-per-node", "gres:gpu:h100:2", "h100"),
        ("tres-per-node", "gres:gpu:h100", "h100"),
        ("tres-per-node", "gres/gpu:3", ""),
        ("tres-per-node", "gres/shard:h100:3", ""),
        ("tres-per-node", "", ""),
    ],
)
def test_the_type_of_gpus_is_told(key: str, tres: str, kind: str) -> None:
    (record,) = parse_squeue(made(**{key: tres}), MARK)
    assert record.job.gpu_type == kind


@pytest.mark.parametrize(
    ("key", "tres", "gpus"),
    [
        ("tres-alloc", "cpu=4,mem=4G,node=2,billing=4,gres/gpu=6,gres/gpu:h100=6", 6),
        ("tres-alloc", "cpu=4,gres/gpu:h100=2,gres/gpu:a100=1", 3),
        ("tres-per-job", "gres:gpu:h100:5", 5),
        ("tres-per-job", "gres/gpu:5", 5),
        ("tres-per-node", "gres:gpu:3", 6),
        ("tres-per-node", "gres:gpu:h100:2,gres:gpu:a100:1", 6),
        ("tres-per-node", "gres/gpu:h100:2,gres/shard:9", 4),
        ("tres-per-node", "gres:gpu", 2),
        ("tres-per-node", "gres:gpu:h100", 2),
        ("tres-per-socket", "gres:gpu:2", 4),
        ("tres-per-task", "gres/gpu=2", 8),
        ("tres-per-node", "gres:nic:3", 0),
    ],
)
def test_gpus_are_counted(key: str, tres: str, gpus: int) -> None:
    (record,) = parse_squeue(made(**{key: tres}), MARK)
    assert record.job.gpu_count == gpus


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2-00:00:00", 172800), ("1:02:03", 3723), ("10:00", 600), ("UNLIMITED", None), ("NOT_SET", None)],
)
def test_time_limits(text: str, seconds: float | None) -> None:
    assert time_limit_seconds(text) == seconds


@pytest.mark.parametrize(
    ("text", "tasks"),
    [("1-19:2%2", 10), ("6,9,20-30%2", 13), ("4", 1), ("N/A", 1), ("", 1), ("0-0", 1), ("0-9999", 10000)],
)
def test_array_tasks_are_counted(text: str, tasks: int) -> None:
    assert task_count(text) == tasks


def test_the_format_names_each_field_with_its_own_mark() -> None:
    assert squeue_format("m~").split(",")[:2] == ["JobID:m~0;", "ArrayJobID:m~1;"]


@pytest.mark.parametrize("mark", ["1ab~", "a,b~", "ab1"])
def test_a_mark_that_squeue_would_misread_is_refused(mark: str) -> None:
    with pytest.raises(ValueError, match="cannot mark"):
        squeue_format(mark)


def test_where_slurm_means_to_put_a_waiting_job_and_how_soon() -> None:
    (waiting,) = parse_squeue(made(SchedNodes="c[1-2]", PriorityLong="4294901750"), MARK)
    assert (waiting.job.planned_nodes, waiting.job.priority) == (("c1", "c2"), 4294901750)
    (running,) = parse_squeue(made(State="RUNNING", SchedNodes="c[1-2]"), MARK)
    assert running.job.planned_nodes == ()
    (silent,) = parse_squeue(made(SchedNodes="(null)", PriorityLong="N/A"), MARK)
    assert (silent.job.planned_nodes, silent.job.priority) == ((), None)


def test_a_job_of_which_nothing_is_new_is_the_same_object() -> None:
    reader = JobReader()
    first = reader.read(made(JobID="7") + made(JobID="8"), MARK)
    again = (made(JobID="8", Reason="Resources") + made(JobID="7")).replace(MARK, "~other~")
    second = reader.read(again, "~other~")
    assert [record.job.job_id for record in second] == ["8", "7"]
    assert second[1] is first[0]
    assert (first[1].job.pending_reason, second[0].job.pending_reason) == ("", "Resources")


def test_jobs_of_different_fields_are_no_list() -> None:
    index = FIELDS.index("Account")
    odd = made().replace(f"N/A{MARK}{index};", "", 1)
    with pytest.raises(ValueError, match="differ in their fields"):
        parse_squeue(made() + odd + made(), MARK)
    with pytest.raises(ValueError, match="unexpected field"):
        parse_squeue(f"x{MARK}3;y{MARK}3;", MARK)


def test_what_a_user_asks_for_is_told() -> None:
    tags = '{"power":{"flex":"flex3","max_hold_seconds":90,"finish_by":1767323045,"cap_watts":350}}'
    (record,) = parse_squeue(made(admin_comment=tags, Deadline="2026-01-02T05:00:00"), MARK)
    job = record.job
    assert (job.flex, job.max_hold_seconds, job.own_cap_watts) == (Flex.FLEX3, 90.0, 350.0)
    assert job.finish_by == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    assert job.deadline == datetime(2026, 1, 2, 5, tzinfo=UTC)
    assert job.ends_by == job.finish_by
    tags = '{"power":{"tier":"digits/full","tiers_ok":["int8"],"min_quality":0.9}}'
    (record,) = parse_squeue(made(admin_comment=tags), MARK)
    assert (record.job.tier, record.job.tiers_ok, record.job.min_quality) == ("digits/full", ("int8",), 0.9)
    (bare,) = parse_squeue(made(), MARK)
    assert (bare.job.tier, bare.job.tiers_ok, bare.job.min_quality) == ("", (), None)
    assert (bare.job.max_hold_seconds, bare.job.ends_by, bare.job.own_cap_watts) == (None, None, None)


def test_a_job_is_whole_without_the_fields_behind_the_last_needed() -> None:
    index = FIELDS.index("SchedNodes")
    (short,) = parse_squeue(made(Name="x").replace(f"N/A{MARK}{index};", ""), MARK)
    assert (short.job.name, short.job.planned_nodes) == ("x", ())


@pytest.mark.parametrize(
    ("values", "requeues"),
    [
        ({"BatchFlag": "1", "Requeue": "1"}, True),
        ({"BatchFlag": "1", "Requeue": "1", "HetJobID": "0", "ArrayTaskID": "3"}, True),
        ({"BatchFlag": "0", "Requeue": "1"}, False),  # salloc and srun
        ({"BatchFlag": "1", "Requeue": "0"}, False),
        ({"BatchFlag": "1", "Requeue": "1", "HetJobID": "7"}, False),
        ({}, False),  # a version that does not say
    ],
)
def test_which_jobs_slurm_may_queue_again(values: dict[str, str], requeues: bool) -> None:
    (record,) = parse_squeue(made(**values), MARK)
    assert record.job.requeues is requeues
