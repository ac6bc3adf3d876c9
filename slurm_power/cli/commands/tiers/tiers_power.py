"""``slurm-power tiers power``: what a tier draws, into the catalog, from the energy of a job that ran it."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from slurm_power.cli.commands.connection import ask, socket_option
from slurm_power.cli.commands.tiers.tiers_files import catalog_option, find_tier, load, refuse
from slurm_power.model.receipt import Method, Receipt, receipt_from_json
from slurm_power.model.tier import PowerSource
from slurm_power.tiers.catalog import CatalogError, write_tier

# In less a job has hardly more than loaded its model.
_LEAST_SECONDS = 15.0


@click.command()
@click.argument("name", metavar="FAMILY/TIER")
@click.option(
    "--from-job", "job", required=True, metavar="JOB", help="A job that ran this tier and has ended."
)
@catalog_option
@socket_option
def power(name: str, job: str, catalog_path: Path | None, socket_path: Path | None) -> None:
    """Write a tier's draw of a GPU into the catalog, as powerd measured it for a job.

    It is the mean over the whole job, loading included. A job that was capped, paused, moved from another
    tier, or that shared its GPUs tells nothing of the tier: it is refused, and nothing is written.
    """
    catalogs = load(catalog_path)
    family, tier = find_tier(catalogs, name)
    if not job.isdecimal():
        refuse([f"--from-job {job}: give its number, as squeue's %A has it"])
    records = ask({"op": "jobs", "job_ids": [job]}, socket_path)["jobs"]
    if not records:
        refuse([f"--from-job {job}: nothing is known of this job (or it is not yours)"])
    record = records[0]
    receipt = receipt_from_json(record.get("receipt"))
    gpu_count = int(record.get("gpu_count") or 0)
    runs = ask({"op": "lineage", "job_id": job}, socket_path)["runs"]
    if problems := list(_against(name, record, receipt, gpu_count, runs)):
        refuse(f"--from-job {job}: {text}" for text in problems)
    assert receipt is not None and receipt.mean_watts is not None
    watts = round(receipt.mean_watts / gpu_count, 1)
    file = catalogs.file_of(family.name)
    measured = dataclasses.replace(tier, watts_per_gpu=watts, power_source=PowerSource.NVML)
    try:
        write_tier(file, family, measured)
    except CatalogError as error:
        refuse(f"{file}: {problem}" for problem in error.problems)
    click.echo(f"{name} draws {watts:g} W a GPU, by {gpu_count} GPUs of job {job}, in {file}")
    if gpu_count != tier.gpu_count:
        click.echo(f"{name}: warning: the catalog says that its jobs take {tier.gpu_count} GPUs", err=True)


def _against(
    name: str, record: dict[str, Any], receipt: Receipt | None, gpu_count: int, runs: list[dict[str, Any]]
) -> Iterator[str]:
    """Why a job's energy is not that of a tier at work; nothing if it is."""
    ran = list(dict.fromkeys(str(run.get("tier") or "no tier") for run in runs)) or [
        str(record.get("tier") or "no tier")
    ]
    if ran != [name]:
        yield f"it ran {', then '.join(ran)}, not {name} alone"
    if receipt is None or receipt.mean_watts is None or receipt.mean_watts <= 0.0:
        yield "the power of its GPUs is not known"
        return
    if not record.get("final"):
        yield "it has not ended, or its nodes have not closed its account yet"
    elif receipt.is_estimate:
        covered = receipt.coverage_ratio or 0.0
        yield f"readings cover {covered:.0%} of its GPUs' time only: let one run for longer"
    elif (receipt.run_seconds or 0.0) < _LEAST_SECONDS:
        yield f"it ran for {receipt.run_seconds or 0.0:.0f} s only: let one run for minutes"
    if gpu_count < 1:
        yield "it had no GPUs"
    if receipt.lowest_cap_watts is not None:
        yield "it was capped, so it drew less than the tier does: run it again when power is not short"
    if receipt.paused_seconds:
        yield "it was paused"
    if receipt.method is Method.SHARED or receipt.shared_ratio:
        yield "others computed on its GPUs meanwhile"
