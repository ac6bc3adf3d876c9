"""The books of all levers: what was moved is noted there, and what stands can be given back."""

from collections.abc import Mapping
from datetime import datetime

from slurm_power.act import Actor, Outcome
from slurm_power.controller.levers.lever_moves import moved, took
from slurm_power.controller.levers.levers import LeverState
from slurm_power.controller.levers.shadow import ShadowBook
from slurm_power.controller.tiers.tier_levers import TierAction, TierLevers
from slurm_power.model.job import Job


class LeverBooks:
    """Notes what became of a plan. In shadow mode a wish is news once."""

    def __init__(self, levers: LeverState, tiers: TierLevers, shadow: ShadowBook) -> None:
        self._levers, self._tiers = levers, tiers
        self.shadow = shadow

    def took(
        self,
        outcome: Outcome,
        draws: Mapping[str, float],
        jobs: Mapping[str, Job],
        at: datetime,
        *,
        enabled: bool,
    ) -> bool:
        """Note a lever that was moved; in shadow mode nothing was, so every wish stays new only once."""
        if not enabled:
            return self.shadow.is_new(outcome.action)
        if isinstance(outcome.action, TierAction):
            return self._tiers.took(outcome, jobs, at)
        if not outcome.took:
            self._levers.moves.refused(outcome.action, at)
            return False
        return took(self._levers, outcome.action, draws, at)

    def standing(self) -> bool:
        """Whether anything is not as it would be without us, and can be taken back."""
        return moved(self._levers) or self._tiers.moved

    async def let_go(self, actor: Actor, jobs: Mapping[str, Job]) -> list[str]:
        """Give everything back at once; return what could not be."""
        paused = tuple(self._levers.paused.pauses)
        kept = tuple(self._levers.holds), self._levers.moves.standing, paused
        self._tiers.let_go(jobs)
        return await actor.let_go(jobs, *kept)
