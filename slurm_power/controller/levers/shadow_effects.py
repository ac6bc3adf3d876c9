"""What the wishes of one cycle would have taken from each circuit in that second."""

from collections.abc import Mapping, Sequence
from typing import assert_never

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
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.loads import JobLoad


def kind_of(action: Action) -> str | None:
    """The word of a wish; None for one that only gives something back, which in shadow mode nobody has."""
    kind: str | None = None
    match action:
        case SetCap():
            kind = None if action.cap_watts is None else "own cap" if action.own else "cap"
        case HoldJob():
            kind = "hold"
        case PauseJob():
            kind = "pause"
        case RelocateJob():
            kind = "relocate" if action.avoid else None
        case ChangeTier():
            kind = "change tier"
        case AdviseBatch():
            kind = "advise batch" if action.micro_batch is not None else None
        case SwitchService():
            kind = "switch service" if action.tier is not None else None
        case SetDischarge():
            watts = action.discharge_watts
            kind = "discharge" if watts > 0.0 else "charge" if watts < 0.0 else None
        case ReleaseJob() | ResumeJob():
            pass
        case _:
            assert_never(action)
    return kind


class Effects:
    """Watts that each action would have taken now; all as the grid connection sees them, if not said else.

    ``each_watts``: one per action, batteries included; ``kind_watts``: their sums by kind. A held start
    counts with what it would have added; a job that is sent elsewhere takes nothing from the grid. A cap
    takes what its job draws above it now: what it keeps from being drawn later is not in it.
    """

    def __init__(self, actions: Sequence[Action], snapshot: Snapshot, loads: Sequence[JobLoad]) -> None:
        self._loads = {load.job.job_id: load for load in loads}
        self._snapshot = snapshot
        self._root = snapshot.site.root.name
        self._circuits: dict[str, float] = {name: 0.0 for name in snapshot.circuits if name != self._root}
        self._left: dict[str, float] = {}
        self.withheld_watts = self.held_watts = self.discharge_watts = 0.0
        self.kind_watts: dict[str, float] = {}
        self.each_watts = [self._watts(action) for action in actions]

    @property
    def relief_watts(self) -> float:
        """All together, held starts left out: they were not drawn before they began."""
        return self.withheld_watts + self.discharge_watts

    def _watts(self, action: Action) -> float:
        kind = kind_of(action)
        if kind is None:
            return 0.0
        match action:
            case SetDischarge():
                watts = self._discharge(action)
            case SetCap():
                watts = self._cap(action)
            case HoldJob():
                watts = max(0.0, action.saved_watts)
                self.held_watts += watts
            case PauseJob() | ChangeTier() | AdviseBatch():
                watts = self._of_job(action.job_id, action.saved_watts)
                self.withheld_watts += watts
            case SwitchService():
                watts = max(0.0, action.saved_watts)
                self.withheld_watts += watts
            case _:
                watts = 0.0
        self.kind_watts[kind] = self.kind_watts.get(kind, 0.0) + watts
        return watts

    def _of_job(self, job_id: str, watts: float) -> float:
        """At most what is left of a job's draw: several levers on one job cannot take more than it has."""
        load = self._loads.get(job_id)
        if load is None:
            return max(0.0, watts)
        drawn = load.gpu_watts * load.circuit_weights.get(self._root, 0.0)
        left = self._left.get(job_id, drawn)
        taken = min(max(0.0, watts), max(0.0, left))
        self._left[job_id] = left - taken
        return taken

    def _cap(self, action: SetCap) -> float:
        load = self._loads.get(action.job_id)
        if load is None or action.cap_watts is None:
            return 0.0
        cut_watts = max(0.0, load.gpu_watts - action.cap_watts)
        watts = self._of_job(action.job_id, cut_watts * load.circuit_weights.get(self._root, 0.0))
        self.withheld_watts += watts
        for name, weight in load.circuit_weights.items():
            if name in self._circuits:
                self._circuits[name] += cut_watts * weight
        return watts

    def _discharge(self, action: SetDischarge) -> float:
        ess = self._snapshot.site.ess.get(action.ess)
        reading = self._snapshot.ess.get(action.ess)
        # What the battery does by itself is in the meter already.
        watts = action.discharge_watts - (0.0 if reading is None else reading.discharge_watts)
        self.discharge_watts += watts
        for name in () if ess is None else self._snapshot.site.path(ess.circuit):
            if name in self._circuits:
                self._circuits[name] += watts
        return watts

    def values(self) -> Mapping[str, float]:
        """This moment's values for the series, by name."""
        return {
            "shadow.withheld_watts": self.withheld_watts,
            "shadow.held_watts": self.held_watts,
            "shadow.discharge_watts": self.discharge_watts,
            **{f"shadow.{name}.relief_watts": watts for name, watts in self._circuits.items()},
        }
