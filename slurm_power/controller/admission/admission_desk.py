"""Lets Slurm's own scheduler keep the budget: licence windows for limits, licences that follow running jobs.

Slurm is asked and told beside the control loop, every few seconds and when an event comes or goes. What is
laid there ends by itself; an earlier controller's windows are taken over, or ended, by their name.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from slurm_power import clock
from slurm_power.config import SiteConfig
from slurm_power.controller.admission.admission_file import AdmissionFile
from slurm_power.controller.admission.admission_follow import LicenceFollower
from slurm_power.controller.admission.admission_windows import WindowKeeper
from slurm_power.controller.governance.operators import Note
from slurm_power.controller.jobs.job_expectations import JobExpectations
from slurm_power.model.action import Plan
from slurm_power.model.admission import LaidWindow, LicenceCount, LicenceWindow
from slurm_power.model.grid_event import Commitment
from slurm_power.model.reading import EssReading
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.units import joules_from_kwh, kilowatts_text
from slurm_power.plan.admission import Budget, Need, lessened, needs, rounded, safety_watts, windows
from slurm_power.plan.admission_jobs import full_watts, largest_waiting, other_watts, understated
from slurm_power.plan.policy import Policy
from slurm_power.plan.steady import SteadyWatts
from slurm_power.ports import Licences, Reservations, SchedulerError
from slurm_power.slurm.licences import licence_counts

log = logging.getLogger(__name__)

_BEAT_SECONDS = 5.0
_FIRST_SECONDS = 1.0
_MOST_BACKOFF_SECONDS = 60.0
_STALE_SECONDS = 10.0
_LET_GO_SECONDS = 5.0
# Needs are rounded up to so many steps of the total.
_STEPS = 200
_MORE_THAN_RATED_RATIO = 1.005


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmAdmission:
    """Both of Slurm's sides that admission needs."""

    licences: Licences
    reservations: Reservations


class AdmissionDesk:
    """One for a controller. Without ``slurm``, or with admission off, it does nothing and says so."""

    def __init__(
        self,
        config: SiteConfig,
        slurm: SlurmAdmission | None,
        expectations: JobExpectations,
        *,
        note: Note,
        fault: Callable[[str, str], None],
    ) -> None:
        """``note`` writes a ledger entry; ``fault`` is told when something goes wrong, and is well again."""
        self._config, self._policy = config.admission, config.policy
        self._slurm = slurm
        self._circuit = config.site.circuits[config.admission.circuit or config.site.root.name]
        self._fault = fault
        self.licence = config.admission.licence
        self.rated_watts = safety_watts(self._circuit) - config.admission.standing_watts
        quantum = max(1, round(self.rated_watts / _STEPS))
        self._quantum = quantum
        self._others = SteadyWatts(quantum)
        self._file = AdmissionFile(config, self._circuit.name, expectations)
        self.follower = LicenceFollower(
            config, self._circuit.name, None if slurm is None else slurm.licences, note, quantum
        )
        self._wake = asyncio.Event()
        self._het_parts: bool | None = None
        self._snapshot: Snapshot | None = None
        self._seen_seconds = 0.0
        self._controls = False
        self._events: frozenset[tuple[str, float, float]] = frozenset()
        self._faults: dict[str, str] = {}
        self._of_jobs: Mapping[str, int] | None = None
        self._count: LicenceCount | None = None
        self._wanted: tuple[LicenceWindow, ...] = ()
        self._keeper = WindowKeeper(None if slurm is None else slurm.reservations, self.licence, note)

    def use_policy(self, policy: Policy) -> None:
        """Go by another policy from now on."""
        self._policy = policy
        self._file.use_policy(policy)
        self.follower.use_policy(policy)

    @property
    def on(self) -> bool:
        """Whether Slurm is to keep the budget."""
        return self._config.enabled and self._slurm is not None

    # --- in the cycle -----------------------------------------------------------------------------------

    def onto(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot, with the word that licences count watts while they do."""
        return replace(snapshot, licensed=True) if self.on and self._count is not None else snapshot

    def before(self, plan: Plan, snapshot: Snapshot) -> Plan:
        """The plan, with caps that wait until their job's licence is given back."""
        if not self.on:
            return plan
        waiting = self.follower.before(plan, snapshot, clock.monotonic())
        if waiting is not plan:
            self._wake.set()
        return waiting

    def observe(self, snapshot: Snapshot, *, controls: bool) -> None:
        """Take one cycle; ``controls`` False: only look."""
        if not self.on:
            return
        at_seconds = snapshot.at.timestamp()
        if self._of_jobs is not None:
            watts = other_watts(snapshot, self._circuit.name, self._of_jobs, self._policy)
            self._others.take(watts, at_seconds)
        events = frozenset(
            (event.event_id, round(event.limit_watts), round(at_seconds + event.ends_in_seconds, -1))
            for event in snapshot.events
            if event.circuit == self._circuit.name and event.commitment is not Commitment.LIMIT
        )
        if events != self._events or controls != self._controls:
            self._events = events
            self._wake.set()
        self._snapshot, self._controls, self._seen_seconds = snapshot, controls, clock.monotonic()

    # --- beside it --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep Slurm in step until cancelled; what it refuses is tried again, ever more seldom."""
        if not self.on:
            await self._retire()
            await asyncio.Event().wait()
        wait_seconds = _FIRST_SECONDS
        while True:
            try:
                async with asyncio.timeout(wait_seconds):
                    await self._wake.wait()
            except TimeoutError:
                pass  # the beat
            self._wake.clear()
            try:
                await self._step()
                self._tell("slurm", "")
                known = self._others.watts is not None or self._others.lost
                wait_seconds = _BEAT_SECONDS if known else _FIRST_SECONDS
            except SchedulerError as error:
                self._tell("slurm", str(error))
                self._het_parts = None  # it may come back as another version
                wait_seconds = min(2.0 * wait_seconds, _MOST_BACKOFF_SECONDS)
                await asyncio.sleep(_BEAT_SECONDS)
            except Exception as error:  # what goes wrong here must end no control
                log.exception("admission went wrong")
                self._tell("slurm", f"it went wrong: {type(error).__name__}: {error}")
                await asyncio.sleep(_BEAT_SECONDS)

    async def _step(self) -> None:
        snapshot, slurm = self._snapshot, self._slurm
        if snapshot is None or slurm is None or clock.monotonic() - self._seen_seconds > _STALE_SECONDS:
            return  # where no cycle works nothing is renewed
        counts = await slurm.licences.counts()
        texts = await slurm.licences.of_jobs()
        laid = await slurm.reservations.laid()
        self._count = self._checked(counts, snapshot)
        self._of_jobs = {
            job_id: found[self.licence]
            for job_id, text in texts.items()
            if self.licence in (found := licence_counts(text))
        }
        if self._het_parts is None:
            self._het_parts = await slurm.licences.for_het_parts()
        hres = self._config.hres in counts
        problem = await self._file.write(snapshot, self._count, hres=hres, het_parts=self._het_parts)
        self._tell("file", problem)
        at_seconds = snapshot.at.timestamp()
        if self._count is None:
            self._wanted = ()
        elif self._others.watts is not None or self._others.lost:
            self._wanted = await self._windows(snapshot, self._count.total, laid)
        else:
            return  # nobody knows yet what is drawn; what is laid stays meanwhile
        await self._keeper.keep(self._wanted if self._controls else (), laid, at_seconds)
        count, controls = self._count, self._controls
        if count is not None and await self.follower.follow(snapshot, texts, count.total, controls=controls):
            self._wake.set()  # what is lower now is kept from new jobs elsewhere

    def _checked(self, counts: Mapping[str, LicenceCount], snapshot: Snapshot) -> LicenceCount | None:
        """The licence, None where Slurm has none; says what is wrong with it."""
        count = counts.get(self.licence)
        line = f"Licenses={self.licence}:{self.rated_watts:.0f}"
        if count is None:
            self._tell(
                "licence",
                f"Slurm has no licence {self.licence}, so it keeps no budget: write {line} into slurm.conf"
                " and run scontrol reconfigure",
            )
            return None
        problem = ""
        if count.total > _MORE_THAN_RATED_RATIO * self.rated_watts:
            problem = (
                f"Slurm has {count.total} licences {self.licence}, more than {self._circuit.name} may draw"
                f" for jobs ({self.rated_watts:.0f} W): write {line} into slurm.conf and run scontrol"
                " reconfigure"
            )
        elif count.total < (largest := self._largest_watts(snapshot)):
            problem = (
                f"Slurm has {count.total} licences {self.licence}, and there is a job that may add"
                f" {largest:.0f} W: it counts as {count.total} W"
            )
        if self._config.hres and self._config.hres not in counts:
            problem = problem or f"Slurm has no resource {self._config.hres} (admission.hres)"
        self._tell("licence", problem)
        return count

    def _largest_watts(self, snapshot: Snapshot) -> float:
        """What the largest job that was seen may add; 0 while none was."""
        gpus = max((job.gpu_count for job in snapshot.jobs), default=0)
        return gpus * self._file.gpu_job_watts(self._policy.training_gpu_watts)

    async def _windows(
        self, snapshot: Snapshot, total: int, laid: Sequence[LaidWindow]
    ) -> tuple[LicenceWindow, ...]:
        """What is to be kept from new jobs as things stand."""
        licences = self._of_jobs or {}
        full = full_watts(snapshot, self._circuit.name, licences, self._policy)
        understated_watts, understated_seconds = understated(snapshot, licences, full)
        budget = Budget(
            circuit=self._circuit,
            total_watts=total,
            other_watts=self._other_watts(),
            lease_seconds=self._config.lease_seconds,
            ess_watts=self._ess_watts(snapshot),
            understated_watts=understated_watts,
            understated_seconds=understated_seconds,
            largest_watts=await self._largest_waiting_watts(snapshot, total),
        )
        now = snapshot.at.timestamp()
        steps = needs(snapshot, budget, self._policy)
        others = [
            Need(start=one.start - now, end=one.end - now, watts=watts)
            for one in laid
            if not one.ours and (watts := one.licences.get(self.licence, 0)) and one.end > now
        ]
        steps, short = lessened(rounded(steps, self._quantum, total), others, total)
        self._tell(
            "reserved",
            f"others have reserved {self.licence}: {kilowatts_text(short)} less than needed can be kept free"
            if short >= self._quantum
            else "",
        )
        return windows(steps, now=now)

    def _other_watts(self) -> float:
        """What is drawn without a licence; as it was, at least what stands, while nobody can see it."""
        known = self._others.watts
        lost = f"{self._circuit.name} has no usable reading: what is drawn without a licence counts as it was"
        self._tell("meter", lost if self._others.lost else "")
        if self._others.lost or known is None:
            return max(known or 0.0, self._config.standing_watts)
        return known

    async def _largest_waiting_watts(self, snapshot: Snapshot, total: int) -> float:
        """What the largest job asks for that has waited for it as long as it promised; 0.0 for none."""
        job_id, _ = largest_waiting(snapshot, self._policy, factor=self._file.factor)
        if self._slurm is None or not job_id:
            return 0.0
        try:
            text = await self._slurm.licences.of_job(job_id)
        except SchedulerError:
            return 0.0  # it is gone meanwhile
        return min(float(total), licence_counts(text).get(self.licence, 0))

    def _ess_watts(self, snapshot: Snapshot) -> float:
        """What batteries are to carry of the events that are known, by the site's own wish."""
        share = self._config.ess_share_ratio
        if share <= 0.0:
            return 0.0
        spans = [
            max(0.0, event.ends_in_seconds) - max(0.0, event.starts_in_seconds)
            for event in snapshot.events
            if event.circuit == self._circuit.name
        ]
        seconds = max(sum(spans), _BEAT_SECONDS)
        found = 0.0
        for name in snapshot.site.ess_behind(self._circuit.name):
            reading: EssReading | None = snapshot.ess.get(name)
            if reading is not None and reading.usable():
                ratio = max(0.0, reading.soc_ratio - snapshot.site.ess[name].reserve_soc_ratio)
                joules = joules_from_kwh(ratio * reading.energy_rating_kwh * reading.soh_ratio)
                found += min(reading.max_discharge_watts, joules / seconds)
        return share * found

    def _tell(self, what: str, problem: str) -> None:
        """Say a problem once, and when it is over."""
        if self._faults.get(what, "") == problem:
            return
        self._faults[what] = problem
        self._fault(f"admission:{what}", problem)

    async def let_go(self) -> None:
        """Give licences back and end our windows; what Slurm does not take in time ends by itself."""
        if not self.on or self._slurm is None:
            return
        try:
            async with asyncio.timeout(_LET_GO_SECONDS):
                await self.follower.let_go()
                await self._keeper.keep((), await self._slurm.reservations.laid(), 0.0)
        except (SchedulerError, TimeoutError) as error:
            self._tell("slurm", f"giving back: {str(error) or 'no answer in time'}; the rest runs out")

    async def _retire(self) -> None:
        """Admission was switched off in site.toml: jobs ask for no watts from now on, and windows end."""
        if not self._config.enabled and self._file.remove() and self._slurm is not None:
            try:
                await self._keeper.keep((), await self._slurm.reservations.laid(), 0.0)
            except SchedulerError as error:
                log.warning("windows of ours run out by themselves: %s", error)

    # --- telling ----------------------------------------------------------------------------------------

    def row(self) -> dict[str, Any] | None:
        """For the status: the licence, what is kept of it and why; None where admission is off."""
        if not self.on:
            return None
        now, count = clock.now().timestamp(), self._count
        return {
            "licence": self.licence,
            "circuit": self._circuit.name,
            "total_watts": None if count is None else count.total,
            "used_watts": None if count is None else count.used,
            "other_watts": self._others.watts,
            "laid": self._controls,
            "problem": "; ".join(text for text in self._faults.values() if text),
            "windows": [
                {
                    "starts_in_seconds": round(max(0.0, window.start - now), 1),
                    "ends_in_seconds": round(window.end - now, 1),
                    "watts": window.watts,
                    "reason": window.reason,
                    "renewed": window.open_end,
                }
                for window in self._wanted
                if window.end > now
            ],
        }
