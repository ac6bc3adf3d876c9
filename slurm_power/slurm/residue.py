"""What of slurm-power is still in a Slurm: settings, files, reservations, notes on jobs. Pure."""

from collections.abc import Iterable, Sequence

from slurm_power.slurm import ours
from slurm_power.slurm.admin_comment import read_object
from slurm_power.slurm.conf_text import has_blocks
from slurm_power.slurm.finding import Finding, note, warning
from slurm_power.slurm.found import Found
from slurm_power.slurm.ours import State
from slurm_power.slurm.shipped import HOOKS, Shipped

RESERVATION_PREFIX = "slurmpower_"


def residue(found: Found, ship: Shipped, comments: Iterable[tuple[str, str]]) -> list[Finding]:
    """Everything of ours that is left; ``comments`` are (job id, AdminComment) of jobs in the queue."""
    return [*_settings(found, ship), *_files(found), *_objects(found), *_jobs(comments)]


def conf_files(found: Found) -> list[str]:
    """Files of the site's own that hold a marked block."""
    return [path for path, file in found.files.items() if has_blocks(file.text or "")]


def _settings(found: Found, ship: Shipped) -> list[Finding]:
    findings = [
        warning(
            f"slurmctld, {setting}",
            f"runs {ours.hook(found, setting, ship).path}",
            f"take it out of {setting}= in {found.slurm_conf}, then scontrol reconfigure",
        )
        for setting in HOOKS
        if ours.hook(found, setting, ship).state is not State.ABSENT
    ]
    script = ours.job_submit(found, ship)
    if script.state is not State.ABSENT:
        findings.append(
            warning(
                "slurmctld, JobSubmitPlugins", f"runs {script.path}", f"take it out of {found.job_submit_lua}"
            )
        )
    return findings


def _files(found: Found) -> list[Finding]:
    findings = [
        warning(
            path,
            "holds a marked block of slurm-power",
            "slurm-power uninstall --apply, or take it out by hand",
        )
        for path in conf_files(found)
    ]
    findings += [
        warning(found.plugstack_conf, f"names the SPANK plugin {path}", "remove the line")
        for path in ours.plugins(found)
        if found.plugstack_conf not in conf_files(found)
    ]
    return findings


def _objects(found: Found) -> list[Finding]:
    findings = [
        warning(
            f"reservation {name}",
            "is slurm-power's; it ends by itself",
            f"or at once: scontrol delete ReservationName={name}",
        )
        for name in found.reservations
        if name.startswith(RESERVATION_PREFIX)
    ]
    if "watts" in found.licenses:
        findings.append(
            warning(
                "slurm.conf, Licenses",
                f"watts:{found.licenses['watts']} is still there; no harm to jobs that hold some",
                "take watts out of Licenses=, then scontrol reconfigure",
            )
        )
    return findings


def _jobs(comments: Iterable[tuple[str, str]]) -> list[Finding]:
    noted: Sequence[str] = [job for job, text in comments if "power" in (read_object(text) or {})]
    if not noted:
        return []
    shown = ", ".join(noted[:5]) + (", ..." if len(noted) > 5 else "")
    return [
        note(
            "jobs", f"{len(noted)} have notes of slurm-power in their AdminComment ({shown}); no harm in that"
        )
    ]
