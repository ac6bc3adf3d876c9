"""Note each lever that was moved in the controller's own leases."""

from collections.abc import Mapping
from datetime import datetime
from typing import assert_never

from slurm_power.controller.levers import LeverState
from slurm_power.model.action import Action, HoldJob, PauseJob, ReleaseJob, ResumeJob, SetCap, SetDischarge


def took(levers: LeverState, action: Action, draws: Mapping[str, float], at: datetime) -> bool:
    """Note a lever that was moved; True where that is news. ``draws``: uncapped watts per GPU by job."""
    match action:
        case SetCap():
            return levers.capped(action, draws.get(action.job_id, 0.0), at)
        case HoldJob():
            return levers.held(action, at)
        case ReleaseJob():
            levers.released(action, at)
            return True
        case PauseJob():
            return levers.paused.paused(action, at)
        case ResumeJob():
            return levers.paused.resumed(action.job_id, at)
        case SetDischarge():
            levers.discharged(action)
            return True
        case _:
            assert_never(action)
