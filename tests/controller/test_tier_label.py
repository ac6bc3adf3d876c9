"""A job's record is labelled with the tier that its start was told, not with the one that was submitted."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from slurm_power.controller.levers.levers import LeverState
from slurm_power.controller.records.recorder import Recorder
from slurm_power.controller.sensing.node_desk import NodeDesk
from slurm_power.model.job import Job
from slurm_power.plan.policy import Policy
from slurm_power.store.sqlite import SqliteStore
from slurm_power.telemetry import SiteTelemetry
from tests.plan.situations import running, site, situation

SUBMITTED = replace(running("17", ("c1", "c2")), tier="digits/full")


class Labels:
    """A node desk and the records behind it."""

    def __init__(self, folder: Path) -> None:
        self.recorder = Recorder(SqliteStore(folder / "s.sqlite"), Policy())
        self.telemetry = SiteTelemetry(site(), {})
        self.desk = NodeDesk(
            self.telemetry,
            self.recorder,
            known_lease=lambda _: True,
            release=lambda _node, _leases: None,
            on_news=lambda: None,
        )

    def said(self, what: str, start: int, told: str | None, node: str = "c1") -> None:
        message = {"type": what, "job_id": "17", "user": "alice", "gpus": [], "tier": "digits/full"}
        self.desk.take(node, {**message, "told_tier": told, "restart_count": start})

    def label(self, job: Job = SUBMITTED) -> Any:
        """After one more cycle in which the list has the job like this."""
        self.recorder.jobs(situation(jobs=(job,)), LeverState(), {}, 1.0)
        return self.recorder.job_record("17").get("tier")


@pytest.fixture
def labels(tmp_path: Path) -> Labels:
    return Labels(tmp_path)


def test_what_was_told_stands_whatever_the_list_says(labels: Labels) -> None:
    assert labels.label() == "digits/full"
    labels.said("job_start", 0, None)
    assert labels.label() == "digits/full"
    labels.said("job_start", 0, "digits/int8")
    assert labels.label() == "digits/int8"
    labels.said("job_start", 0, None, node="c2")
    assert labels.label() == "digits/int8"
    labels.said("job_end", 0, "digits/int8")
    assert labels.label(replace(SUBMITTED, nodes=())) == "digits/int8"


def test_each_start_is_labelled_anew(labels: Labels) -> None:
    labels.label()
    labels.said("job_start", 0, "digits/full")
    labels.said("job_start", 1, None)
    labels.said("job_start", 1, "digits/int8")
    assert labels.label() == "digits/int8"
    labels.said("job_start", 2, None)
    assert labels.label() == "digits/full", "nobody was told anything yet"


def test_nonsense_and_jobs_without_a_tier_have_no_label(labels: Labels) -> None:
    bare = replace(SUBMITTED, tier="")
    labels.label(bare)
    labels.said("job_start", 0, None)
    labels.said("job_start", 0, "nonsense")
    assert labels.label(bare) is None
