"""What nodes report of jobs, as the controller takes it."""

from typing import Any

import pytest

from slurm_power.model.progress import JobProgress
from slurm_power.telemetry.progress import progress_of, progress_together

ROW: dict[str, Any] = {
    "step": 12,
    "samples_per_second": 100.5,
    "age_seconds": 1.5,
    "global_batch": 256,
    "micro_batch": 64,
    "max_micro_batch": 128,
    "checkpoints": True,
    "checkpoint_step": 10,
}
WORD = JobProgress(**ROW)


def test_a_row_is_taken_as_it_is_and_an_old_node_says_none() -> None:
    assert progress_of({"progress": {"17": ROW, "18": {**ROW, "micro_batch": None}}}) == {
        "17": WORD,
        "18": JobProgress(**{**ROW, "micro_batch": None}),
    }
    assert progress_of({}) == progress_of({"progress": None}) == {}
    bare = {"step": 0, "samples_per_second": 0, "age_seconds": 0}
    assert progress_of({"progress": {"17": bare}})["17"] == JobProgress(
        step=0, samples_per_second=0.0, age_seconds=0.0
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *(("step", None), ("step", -1), ("step", 1.0), ("step", True), ("samples_per_second", None)),
        *(("samples_per_second", -0.1), ("samples_per_second", float("nan")), ("age_seconds", "1")),
        *(("age_seconds", float("inf")), ("micro_batch", 0), ("checkpoint_step", -1), ("global_batch", {})),
    ],
)
def test_a_wrong_number_is_named(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"progress: {key}: "):
        progress_of({"progress": {"17": {**ROW, key: value}}})


@pytest.mark.parametrize("rows", [[], "x", {"17": None}, {"17": [1]}])
def test_what_is_no_table_is_refused(rows: object) -> None:
    if rows == []:
        assert progress_of({"progress": rows}) == {}
        return
    with pytest.raises(ValueError, match="progress: not an object"):
        progress_of({"progress": rows})


def test_the_nodes_of_a_job_are_one_word() -> None:
    other = JobProgress(**{**ROW, "step": 9, "samples_per_second": 50.0, "age_seconds": 4.0})
    lacks = JobProgress(**{**ROW, "max_micro_batch": None, "checkpoints": False, "checkpoint_step": None})
    together = progress_together([WORD, other])
    assert together == JobProgress(**{**ROW, "step": 9, "samples_per_second": 150.5, "age_seconds": 4.0})
    assert progress_together([WORD]) == WORD
    less = progress_together([WORD, lacks])
    assert (less.max_micro_batch, less.checkpoints, less.checkpoint_step) == (None, False, 10)
