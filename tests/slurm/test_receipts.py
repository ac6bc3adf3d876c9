"""Receipts against a Slurm without accounting; the one with accounting is in tests/loop."""

import asyncio

import pytest

from containers.cluster.lab import Lab
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.receipts import (
    AccountedJob,
    AccountingReceipts,
    ForeignCommentError,
    NoAccountingError,
)
from tests.cluster.lab import await_job, submit


@pytest.mark.slurm
def test_a_slurm_without_accounting_is_known_as_one(lab: Lab) -> None:
    accounting = AccountingReceipts(CommandRunner(lab.layout.slurm_conf))
    with pytest.raises(NoAccountingError, match="accounting storage is disabled"):
        asyncio.run(accounting.read(["1"]))


@pytest.mark.slurm
def test_slurm_takes_no_comment_on_a_job_that_has_ended(lab: Lab) -> None:
    """Why receipts go to slurmdbd; should a Slurm take it one day, they could be written here."""
    job = submit(lab, "true")
    await_job(lab, job)
    done = lab.run(["scontrol", "update", f"jobid={job}", "AdminComment=late"], check=False)
    assert done.returncode != 0
    assert "already finished" in done.stderr


@pytest.mark.parametrize("comment", ["theirs", '{"power":{},"theirs":1}'])
def test_another_tool_s_comment_is_refused_before_anything_is_run(comment: str) -> None:
    accounting = AccountingReceipts(CommandRunner(None, search_path="/nonexistent"))
    job = AccountedJob(job_id="17", name="17", ended=True, admin_comment=comment)
    with pytest.raises(ForeignCommentError, match="job 17: its AdminComment is another tool's"):
        asyncio.run(accounting.write(job, {"v": 1}))
