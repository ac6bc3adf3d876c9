"""Running jobs' licences follow what they draw: lower under a cap, and given back before the cap is."""

from collections.abc import Mapping

from slurm_power import clock
from slurm_power.config import SiteConfig
from slurm_power.controller.governance.operators import Note
from slurm_power.model.action import Plan
from slurm_power.model.job import JobState
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import kilowatts_text
from slurm_power.plan.admission_jobs import Correction, corrections, full_watts, lifts, waiting
from slurm_power.plan.policy import Policy
from slurm_power.ports import Licences, SchedulerError
from slurm_power.slurm.licences import licence_counts, with_count

# Each is a request to slurmctld.
_MOST_A_BEAT = 10
# A cap waits no longer than this for its job's licence; a busy slurmctld takes some of it.
_LONGEST_WAIT_SECONDS = 30.0


class LicenceFollower:
    """Corrects running jobs' licences, a few at a time. What a cap freed is remembered, to be given back."""

    def __init__(
        self, config: SiteConfig, circuit: str, licences: Licences | None, note: Note, quantum_watts: int
    ) -> None:
        self._config, self._policy = config.admission, config.policy
        self._circuit, self._licences, self._note = circuit, licences, note
        self._quantum = quantum_watts
        # The licences each job had before a cap of ours lowered them.
        self.lowered: dict[str, str] = {}
        self._uncapping: dict[str, float] = {}
        self._off_since: dict[str, float] = {}

    def use_policy(self, policy: Policy) -> None:
        """Go by another policy from now on."""
        self._policy = policy

    def before(self, plan: Plan, snapshot: Snapshot, now_seconds: float) -> Plan:
        """The plan, with caps as they are where their job's licence has to grow first."""
        if not self.lowered and not self._uncapping:
            return plan
        lifted = lifts(plan, snapshot, frozenset(self.lowered))
        self._uncapping = {job_id: self._uncapping.get(job_id, now_seconds) for job_id in lifted}
        patient = {
            job_id for job_id, since in self._uncapping.items() if now_seconds - since < _LONGEST_WAIT_SECONDS
        }
        return waiting(plan, snapshot, frozenset(patient))

    async def follow(
        self, snapshot: Snapshot, texts: Mapping[str, str], total: int, *, controls: bool
    ) -> bool:
        """Write a few licences anew; ``texts`` are those of all running jobs. Raises SchedulerError.

        Returns whether any was written.
        """
        if not controls:
            await self.let_go()
            return False
        await self._requeued(snapshot, texts)
        name = self._config.licence
        counts = {job_id: licence_counts(text) for job_id, text in texts.items()}
        own = {job_id: found[name] for job_id, found in counts.items() if name in found}
        self._look(snapshot, texts, own)
        if not self._config.follow_caps:
            return False
        found = corrections(
            snapshot,
            self._circuit,
            own,
            self._policy,
            follow_seconds=self._config.follow_seconds,
            quantum_watts=self._quantum,
            uncapping=frozenset(self._uncapping),
        )
        due = self._steady(found)[:_MOST_A_BEAT]
        return any([await self._write(one, texts[one.job_id], min(one.watts, total)) for one in due])

    def _look(self, snapshot: Snapshot, texts: Mapping[str, str], own: Mapping[str, int]) -> None:
        """Find the licences below what their capped jobs would draw, an earlier controller's included."""
        full = full_watts(snapshot, self._circuit, own, self._policy)
        low = {
            job_id
            for job_id, watts in full.items()
            if job_id in snapshot.caps and watts - own[job_id] > self._quantum
        }
        self.lowered = {job_id: text for job_id, text in self.lowered.items() if job_id in low}
        for job_id in low - self.lowered.keys():
            text = with_count(texts[job_id], self._config.licence, full[job_id])
            if text is not None:
                self.lowered[job_id] = text

    def _steady(self, found: tuple[Correction, ...]) -> list[Correction]:
        """Those that grow at once; those that shrink once they have been wrong as long as caps must stand."""
        now_seconds = clock.monotonic()
        shrinking = {one.job_id for one in found if one.watts < one.was_watts}
        self._off_since = {job_id: self._off_since.get(job_id, now_seconds) for job_id in shrinking}
        return [
            one
            for one in found
            if one.watts > one.was_watts
            or one.capped
            or now_seconds - self._off_since[one.job_id] >= self._config.follow_seconds
        ]

    async def _write(self, one: Correction, text: str, watts: int) -> bool:
        changed = with_count(text, self._config.licence, watts)
        if self._licences is None or changed is None or watts == one.was_watts:
            return False
        await self._licences.set_of_job(one.job_id, changed)
        if one.capped:
            if one.watts < one.was_watts:
                self.lowered.setdefault(one.job_id, text)
        elif one.watts >= one.was_watts:
            self.lowered.pop(one.job_id, None)
        self._say(one.job_id, watts, one.was_watts, one.reason)
        return True

    def _say(self, job_id: str, watts: int, was_watts: int, reason: str) -> None:
        text = f"{kilowatts_text(watts)} in place of {kilowatts_text(was_watts)}: {reason}"
        details = {"watts": watts, "was_watts": was_watts}
        self._note("admission", "licence", f"job:{job_id}", text, job_id=job_id, details=details)

    async def _requeued(self, snapshot: Snapshot, texts: Mapping[str, str]) -> None:
        """A job that waits again starts without its cap: it gets back what it had."""
        gone = self.lowered.keys() - texts.keys()
        if not gone:
            return
        waiting_again = {job.job_id for job in snapshot.jobs if job.state is JobState.PENDING}
        # One that goes on with a lighter tier needs less than it had; what it starts with is corrected then.
        waiting_again -= {job_id for job_id, move in snapshot.tier_moves.items() if move.running}
        for job_id in gone:
            text = self.lowered.pop(job_id)
            if job_id in waiting_again and self._licences is not None:
                await self._licences.set_of_job(job_id, text)

    async def let_go(self) -> None:
        """Give back what caps have lowered; raises SchedulerError where Slurm does not take it."""
        problems = []
        for job_id, text in list(self.lowered.items()):
            try:
                if self._licences is not None:
                    await self._licences.set_of_job(job_id, text)
            except SchedulerError as error:
                problems.append(str(error))
            # What is refused now belongs to a job that has ended, or is corrected when Slurm answers again.
            del self.lowered[job_id]
        if problems:
            raise SchedulerError(problems[0])
