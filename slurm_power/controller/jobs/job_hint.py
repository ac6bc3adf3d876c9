"""Hints of slurmctld's own hooks that a job starts or has ended: the controller looks at the jobs at once.

Nothing in a hint is trusted, the job list alone is; yet only who speaks for Slurm may send one here.
"""

import pwd
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.wire import Message

if TYPE_CHECKING:
    from slurm_power.controller.daemon import Controller

_EVENTS = ("start", "end")
_SLURM_CONF = Path("/etc/slurm/slurm.conf")
_LONGEST_JOB_ID = 20


def job_hint(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Look at the jobs soon; raises RefusedError."""
    if not caller.operator and caller.uid != slurm_uid(
        controller.config.controller.slurm_conf or _SLURM_CONF
    ):
        raise RefusedError(f"{caller.user} may not send job_hint: only root and SlurmUser may")
    job_id = request.get("job_id")
    if not isinstance(job_id, str) or not job_id.isdecimal() or len(job_id) > _LONGEST_JOB_ID:
        raise RefusedError("job_id: not a job's number as a text")
    if request.get("event") not in _EVENTS:
        raise RefusedError(f"event: must be one of {', '.join(_EVENTS)}")
    controller.look_soon()
    return {}


def slurm_uid(slurm_conf: Path) -> int | None:
    """The uid of SlurmUser as slurm.conf itself says, root's where it says none; None if nobody can tell."""
    name = "root"
    try:
        for line in slurm_conf.read_text(errors="replace").splitlines():
            key, equals, value = line.partition("#")[0].partition("=")
            if equals and key.strip().lower() == "slurmuser":
                name = value.strip().partition("(")[0]
        return int(name) if name.isdecimal() else pwd.getpwnam(name).pw_uid
    except (OSError, KeyError):
        return None
