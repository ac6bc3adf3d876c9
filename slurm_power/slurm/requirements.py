"""What a Slurm must have for slurm-power to be of use, whether or not anything of ours is installed. Pure."""

import re
from collections.abc import Iterator

from slurm_power.slurm.finding import Finding, error, note, warning
from slurm_power.slurm.found import Found

OLDEST = (22, 5)
# A hook of ours ends within 2 s, whatever happens; slurmd's own work comes on top.
LEAST_HOOK_SECONDS = 5.0
# Longest wait for the site's ramp, in a prolog that is told to wait.
LONGEST_PROLOG_SECONDS = 60.0


def requirement_findings(found: Found) -> list[Finding]:
    """Everything about this Slurm that does not suit, in the order of slurm.conf's manual."""
    return [
        *_version(found),
        *_authentication(found),
        *_scheduling(found),
        *_gpus(found),
        *_time_limits(found),
        *_hooks(found),
        *_accounting(found),
    ]


def configless_findings(found: Found, hooks_directory: str) -> list[Finding]:
    """What nodes do not get from slurmctld where they get slurm.conf from it."""
    if "enable_configless" not in found.setting("SlurmctldParameters"):
        return []
    return [
        warning(
            "slurm.conf",
            "configless: nodes take slurm.conf and plugstack.conf from slurmctld, but hooks lie on each",
            f"put {hooks_directory} on every node before slurm.conf is changed:"
            " a node whose hook is missing is drained",
        )
    ]


def version_of(text: str) -> tuple[int, int] | None:
    """Read ``22.05.8`` as (22, 5)."""
    match = re.match(r"(\d+)\.(\d+)", text)
    return None if match is None else (int(match[1]), int(match[2]))


def _version(found: Found) -> Iterator[Finding]:
    version = version_of(found.version)
    if version is None or version < OLDEST:
        yield error("slurmctld", f"version {found.version or 'unknown'} is not supported", "22.05 or later")
    others = sorted({node.version for node in found.nodes if node.version} - {found.version})
    if others:
        yield note("nodes", f"slurmd of version {', '.join(others)} beside slurmctld {found.version}")


def _authentication(found: Found) -> Iterator[Finding]:
    if found.setting("AuthType") != "auth/munge":
        yield error(
            "slurm.conf",
            f"AuthType is {found.setting('AuthType') or 'not set'}; nodes prove themselves by MUNGE",
            "AuthType=auth/munge, and munged on every host",
        )


def _scheduling(found: Found) -> Iterator[Finding]:
    select = found.setting("SelectType")
    if select != "select/cons_tres":
        yield error(
            "slurm.conf", f"SelectType is {select}, which shares out no GPUs", "SelectType=select/cons_tres"
        )
    if found.setting("SchedulerType") != "sched/backfill":
        yield warning(
            "slurm.conf",
            f"SchedulerType is {found.setting('SchedulerType')}: a held job's room stays empty",
            "SchedulerType=sched/backfill",
        )
    elif "bf_licenses" not in found.words("SchedulerParameters"):
        told = error if "watts" in found.licenses else note
        yield told(
            "slurm.conf",
            "SchedulerParameters has no bf_licenses: with watts as a licence, waiting jobs may starve",
            "add bf_licenses to SchedulerParameters",
        )


def _gpus(found: Found) -> Iterator[Finding]:
    if not any(node.gpu_count for node in found.nodes):
        yield error(
            "slurm.conf",
            "no node has GPUs as GRES: nothing can be capped, jobs' watts are unknown",
            "GresTypes=gpu, Gres=gpu:TYPE:N at the nodes, and gres.conf",
        )
    elif found.accounting and "gres/gpu" not in found.words("AccountingStorageTRES"):
        yield note(
            "slurm.conf", "AccountingStorageTRES has no gres/gpu", "add it, and sacct tells jobs' GPUs"
        )


def _time_limits(found: Found) -> Iterator[Finding]:
    """A job without a limit meets every window, and its flex class promises nothing that could be counted."""
    for partition in found.partitions:
        if partition.default_seconds is None and partition.most_seconds is None:
            yield warning(
                f"partition {partition.name}",
                "neither DefaultTime nor MaxTime: a job without --time has no end that could be planned with",
                "set DefaultTime, as in PartitionName=... DefaultTime=01:00:00",
            )


def _hooks(found: Found) -> Iterator[Finding]:
    seconds = found.hook_timeout_seconds
    if seconds is None:
        return
    if seconds < LEAST_HOOK_SECONDS:
        yield error(
            "slurm.conf",
            f"PrologEpilogTimeout={seconds:g} s: a hook that is too late drains its node; ours may take 2 s",
            f"PrologEpilogTimeout={LONGEST_PROLOG_SECONDS:g} or none, never below {LEAST_HOOK_SECONDS:g}",
        )
    elif seconds < LONGEST_PROLOG_SECONDS:
        yield note(
            "slurm.conf",
            f"PrologEpilogTimeout={seconds:g} s: node.toml must say so (prolog_timeout_seconds), no prolog"
            " of ours waits that long",
        )


def _accounting(found: Found) -> Iterator[Finding]:
    if not found.accounting:
        yield note(
            "slurm.conf",
            f"no slurmdbd, so no operators: powerctld has to run as {found.slurm_user}",
        )
