"""What a job finds of us in its environment: its words as they were understood, and what holds on its node.

It goes to the SPANK plugin and to TaskProlog as plain lines ``NAME=value``, with a dot alone as the last:
neither has to read JSON for it, and an answer that was cut off is none.
"""

import re
from collections.abc import Iterable
from pathlib import Path

from slurm_power.config.node_record import advice_directory
from slurm_power.model.lease import Lease, LeaseState, Lever
from slurm_power.node.jobs import NodeJob

MOST_VARIABLES = 16
LONGEST_VALUE = 256
_NAME = re.compile(r"SLURM_POWER_[A-Z_]{1,40}")
_VALUE = re.compile(r"[ -~]*")
_IN_FORCE = (LeaseState.WRITTEN, LeaseState.VERIFIED, LeaseState.SAFE)


def environment_of(job: NodeJob, leases: Iterable[Lease], socket: str) -> dict[str, str]:
    """The variables of a job on this node; ``SLURM_POWER_CAP_WATTS`` is the lowest cap on its GPUs now."""
    caps_watts = [
        lease.bound
        for lease in leases
        if lease.uuid in job.energy and lease.lever is Lever.POWER_CAP and lease.state in _IN_FORCE
    ]
    known = {
        "SLURM_POWER_SOCKET": socket,
        "SLURM_POWER_ADVICE_FILE": str(advice_directory(Path(socket)) / f"{job.job_id}.json"),
        "SLURM_POWER_RESTART": str(job.restart_count),
        "SLURM_POWER_WORKLOAD": job.workload,
        "SLURM_POWER_FLEX": job.flex,
        "SLURM_POWER_MAX_HOLD": None if job.max_hold_seconds is None else f"{job.max_hold_seconds}s",
        "SLURM_POWER_FINISH_BY": None if job.finish_by is None else f"@{job.finish_by}",
        "SLURM_POWER_CAP": None if job.own_cap_watts is None else str(job.own_cap_watts),
        "SLURM_POWER_TIER": job.told_tier or job.tier or None,
        "SLURM_POWER_MODEL": job.told_model,
        "SLURM_POWER_TIERS_OK": job.tiers_ok,
        "SLURM_POWER_MIN_QUALITY": None if job.min_quality is None else shortest_decimal(job.min_quality),
        "SLURM_POWER_CAP_WATTS": f"{min(caps_watts):.0f}" if caps_watts else None,
    }
    return {name: value for name, value in known.items() if value is not None}


def shortest_decimal(value: float) -> str:
    """A number as ``--min-quality`` has it in its normal form: 0.95, not 0.950000."""
    return f"{value:.6f}".rstrip("0").rstrip(".")


def environment_lines(variables: dict[str, str]) -> bytes:
    """The whole answer. What the plugin would refuse is left out, so that the rest is not lost with it."""
    good = [
        f"{name}={value}\n"
        for name, value in variables.items()
        if _NAME.fullmatch(name) and _VALUE.fullmatch(value) and len(value) <= LONGEST_VALUE
    ]
    return ("".join(good[:MOST_VARIABLES]) + ".\n").encode()
