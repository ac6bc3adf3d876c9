"""Note each lever that was moved in the controller's own leases."""

from collections.abc import Mapping
from datetime import datetime
from typing import assert_never

from slurm_power.controller.levers.levers import LeverState
from slurm_power.model.action import (
    Action,
    AdviseBatch,
    ChangeTier,
    HoldJob,
    PauseJob,
    ReleaseJob,
    RelocateJob,
    ResumeJob,
    SetCap,
    SetDischarge,
    SwitchService,
)


def took(levers: LeverState, action: Action, draws: Mapping[str, float], at: datetime) -> bool:
    """Note a lever that was moved; True where that is news. ``draws``: uncapped watts per GPU by job."""
    match action:
        case SetCap():
            news = levers.capped(action, draws.get(action.job_id, 0.0), at)
        case HoldJob():
            news = levers.held(action, at)
        case ReleaseJob():
            news = levers.released(action, at)
        case RelocateJob():
            news = levers.moves.took(action, at)
        case PauseJob():
            news = levers.paused.paused(action, at)
        case ResumeJob():
            news = levers.paused.resumed(action.job_id, at)
        case SetDischarge():
            news = levers.discharged(action)
        case ChangeTier() | SwitchService() | AdviseBatch():
            raise AssertionError("TierLevers notes those")
        case _:
            assert_never(action)
    return news


def moved(levers: LeverState) -> bool:
    """Whether any lever is not as it would be without us."""
    jobs = levers.caps or levers.holds or levers.paused.pauses or levers.moves.standing
    return bool(jobs or any(levers.setpoints.values()))
