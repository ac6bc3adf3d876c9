"""Model tiers, services and advice to running jobs, for the rest of the controller in one piece."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from slurm_power.act import Outcome
from slurm_power.config import SiteConfig
from slurm_power.controller.jobs.lineage import Lineage
from slurm_power.controller.jobs.progress_book import ProgressBook
from slurm_power.controller.tiers.advice_book import AdviceBook, Word
from slurm_power.controller.tiers.catalog_source import CatalogSource
from slurm_power.controller.tiers.service_desk import ServiceDesk
from slurm_power.controller.tiers.tier_desk import Records, TierDesk
from slurm_power.model.action import AdviseBatch, ChangeTier, SwitchService
from slurm_power.model.job import Job
from slurm_power.model.progress import JobProgress
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.lasting_needs import Shortages
from slurm_power.plan.loads import JobLoad
from slurm_power.plan.policy import Policy
from slurm_power.ports import Scheduler
from slurm_power.wire import Message

TierAction = ChangeTier | SwitchService | AdviseBatch


class TierLevers:
    """What of the controller has to do with model tiers. Without a catalog all of it rests."""

    def __init__(
        self,
        config: SiteConfig,
        store: Records,
        scheduler: Scheduler,
        *,
        send: Callable[[str, Message], bool],
        lineage: Lineage,
        note: Callable[..., None],
        fault: Callable[[str, str], None],
        wake: Callable[[], None],
    ) -> None:
        """``send`` gives a message to a node, False where it is not connected."""
        self._policy = config.policy
        self._note = note
        self._wake = wake
        self.source = CatalogSource(config.controller.tiers_path, fault)
        self.advice = AdviceBook(send)
        self.desk = TierDesk(
            scheduler,
            store,
            send=send,
            advice=self.advice,
            catalog=lambda: self.source.catalog,
            checkpoint_seconds=config.policy.tier_checkpoint_seconds,
            moved=lineage.moved,
            note=note,
        )
        self.services = ServiceDesk(store, config.policy, note)
        self.progress = ProgressBook()
        self.lineage = lineage
        self._short = Shortages()

    def use_policy(self, policy: Policy) -> None:
        """Go by another policy from now on."""
        self._policy = policy
        self.services.use_policy(policy)

    @property
    def moved(self) -> bool:
        """Whether anything is not as it would be without us, and can be taken back."""
        return bool(self.advice.micro_batches() or self.services.asked)

    def onto(self, snapshot: Snapshot, progress: Mapping[str, JobProgress], now_seconds: float) -> Snapshot:
        """The snapshot with all that concerns tiers."""
        self.desk.look(progress)
        seen = self.services.onto(self.progress.onto(snapshot, progress), now_seconds)
        return replace(
            seen,
            catalog=self.source.catalog,
            tier_moves=self.desk.book.view(snapshot.at),
            micro_batches=self.advice.micro_batches(),
            advised_seconds=self.advice.advised_seconds(snapshot.at),
            short_seconds=self._short.seconds(now_seconds),
        )

    async def begin(self, action: ChangeTier, job: Job | None) -> None:
        """Begin a move; raises SchedulerError."""
        await self.desk.begin(action, job)

    def took(self, outcome: Outcome, jobs: Mapping[str, Job], at: datetime) -> bool:
        """Note what became of an action; True where that is news."""
        action = outcome.action
        match action:
            case ChangeTier():
                job = jobs.get(action.job_id)
                if not outcome.took:
                    self.desk.refused(action, job, at)
                    return False
                return self.desk.took(action, job, at)
            case SwitchService():
                return self.services.took(action, at)
            case AdviseBatch():
                return self.advice.took(action, at)
            case _:
                raise AssertionError(f"{type(action).__name__} is no lever of tiers")

    def follow(self, snapshot: Snapshot, now_seconds: float, *, enabled: bool) -> None:
        """Take everything a step further."""
        jobs = {job.job_id: job for job in snapshot.jobs}
        self.desk.follow(snapshot, now_seconds, enabled=enabled)
        self.advice.follow(jobs, now_seconds)
        self.services.follow(now_seconds)
        self.lineage.follow(jobs)

    def observe(
        self, snapshot: Snapshot, loads: Sequence[JobLoad], cycle_seconds: float, now_seconds: float
    ) -> None:
        """Learn from what jobs tell, and see which circuits are short."""
        self.progress.observe(snapshot, loads, cycle_seconds)
        if snapshot.catalog.families:
            self._short.look(snapshot, self._policy, now_seconds)

    def job_started(self, node: str, message: Message) -> None:
        """A node has a job that starts."""
        self.desk.job_started(node, message)
        self.lineage.started(message)

    def advise(self, job: Job, who: str, word: Word | None, details: Mapping[str, object]) -> None:
        """Say a word of somebody's to a job, None takes it back; and write it down."""
        self.advice.user_says(job.job_id, word)
        reason = "taken back" if word is None else word.reason
        about = {"job_id": job.job_id, "user": job.user, "details": details}
        self._note(f"user:{who}", "advise", f"job:{job.job_id}", reason, **about)
        self._wake()

    def give_up(self, snapshot: Snapshot, reason: str) -> None:
        """Give up the moves of running jobs that have not ended yet; those that wait changed go on."""
        self.desk.give_up(snapshot, reason)

    def let_go(self, jobs: Mapping[str, Job]) -> None:
        """Take back what can be: advice, and what services are asked."""
        self.advice.let_go(jobs)
        self.services.let_go()

    async def stop(self) -> None:
        """End what is under way."""
        await self.desk.stop()
