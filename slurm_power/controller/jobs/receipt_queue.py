"""Receipts on their way to Slurm's accounting: a few a second, in the order of the jobs' ends.

Nothing waits for them. Each costs slurmdbd a quarter of a second and slurmctld nothing. What cannot be
written now is tried again, after a restart too, and given up after some days.
"""

import asyncio
import logging
from collections.abc import Callable, Collection, Sequence
from typing import Any, NamedTuple, Protocol

from slurm_power import clock
from slurm_power.model.receipt import StepTimes
from slurm_power.ports import SchedulerError
from slurm_power.slurm.receipts import AccountedJob, ForeignCommentError, NoAccountingError

log = logging.getLogger(__name__)

SUBJECT = "receipts"
# sacct shows the end of a job some seconds after it.
_FIRST_TRY_SECONDS = 4.0
_LONGEST_WAIT_SECONDS = 600.0
_GIVE_UP_SECONDS = 3 * 86_400.0
_AT_ONCE = 50
_BEAT_SECONDS = 1.0
# Between two receipts, beside the time that slurmdbd takes for one.
_PACE_SECONDS = 0.1
# After so many refusals in a row it is not the job, it is the database.
_ODD_IN_A_ROW = 3
_MOST_WAITING = 20_000


class Accounting(Protocol):
    """Slurm's accounting, as far as receipts need it. All calls raise SchedulerError."""

    async def read(self, job_ids: Sequence[str]) -> dict[str, AccountedJob]:
        """Jobs it knows, by their raw ids; raises NoAccountingError where there is no accounting."""
        ...

    async def steps(self, job: AccountedJob) -> list[StepTimes]:
        """When a job's steps ran."""
        ...

    async def write(self, job: AccountedJob, receipt: dict[str, object]) -> None:
        """Put a receipt into a job's AdminComment; raises ForeignCommentError where that is not ours."""
        ...


class Waiting(NamedTuple):
    """Since when a receipt waits and when it is tried next (Unix seconds), and how often it was."""

    since_seconds: float
    due_seconds: float
    tries: int = 0

    def later(self, now_seconds: float) -> "Waiting":
        """After one more try in vain."""
        wait_seconds = min(_LONGEST_WAIT_SECONDS, _FIRST_TRY_SECONDS * 2.0**self.tries)
        return Waiting(self.since_seconds, now_seconds + wait_seconds, min(self.tries + 1, 20))


class ReceiptQueue:
    """``receipt`` gives a job's receipt, with the energy of its steps, or None where it has none."""

    def __init__(
        self,
        accounting: Accounting,
        receipt: Callable[[str, Sequence[StepTimes]], dict[str, object] | None],
        *,
        has_steps: Callable[[str], bool],
        note: Callable[..., None],
        fault: Callable[[str, str], None],
        stored: object = None,
    ) -> None:
        """``has_steps``: whether the energy of a job's steps could be told, so that they are asked for.

        ``stored`` is an earlier queue's ``document``. ``note`` writes into the ledger, ``fault`` as well:
        what keeps all receipts from being written, and "" when that is over.
        """
        self._accounting = accounting
        self._receipt = receipt
        self._has_steps = has_steps
        self._note = note
        self._fault = fault
        self._waiting = _read(stored)
        self._problem = ""
        self._quiet_until_seconds = 0.0
        self._odd = 0
        self._given_up: dict[str, int] = {}
        self.changed = False
        self.closed = False

    @property
    def jobs(self) -> Collection[str]:
        """The jobs whose receipts wait."""
        return self._waiting.keys()

    def document(self) -> dict[str, Any]:
        """All that waits, as plain values."""
        self.changed = False
        return {job_id: list(waiting) for job_id, waiting in self._waiting.items()}

    def add(self, job_id: str) -> None:
        """A job has a receipt; one that waits already is not put back."""
        if self.closed or job_id in self._waiting:
            return
        now_seconds = clock.now().timestamp()
        if len(self._waiting) >= _MOST_WAITING:
            self._give_up(next(iter(self._waiting)), f"more than {_MOST_WAITING} waited")
        self._waiting[job_id] = Waiting(now_seconds, now_seconds + _FIRST_TRY_SECONDS)
        self.changed = True

    async def run(self) -> None:
        """Hand out until cancelled."""
        while True:
            await asyncio.sleep(_BEAT_SECONDS)
            now_seconds = clock.now().timestamp()
            if now_seconds < self._quiet_until_seconds:
                continue
            due = [job_id for job_id, waiting in self._waiting.items() if waiting.due_seconds <= now_seconds]
            try:
                if due:
                    await self._hand_out(due[:_AT_ONCE])
            except NoAccountingError as error:
                self._close(str(error))
            except SchedulerError as error:
                self._stop_for_a_while(str(error))
            except Exception as error:  # receipts must not end the controller
                log.error("receipts went wrong", exc_info=error)
                self._stop_for_a_while(f"{type(error).__name__}: {error}")
            self._tell_given_up()

    async def _hand_out(self, job_ids: Sequence[str]) -> None:
        jobs = await self._accounting.read(job_ids)
        for job_id in job_ids:
            job = jobs.get(job_id)
            if job is None or not job.ended:
                self._later(job_id)
                continue
            try:
                await self._write(job)
            except ForeignCommentError:
                self._give_up(job_id, "their AdminComment is another tool's and stays as it is")
            except NoAccountingError:
                raise
            except Exception as error:  # one job's trouble, whatever it is, is not the others'
                self._later(job_id)
                self._odd += 1
                log.warning("the receipt of job %s waits: %s", job_id, error)
                if self._odd >= _ODD_IN_A_ROW:
                    raise
            await asyncio.sleep(_PACE_SECONDS)

    async def _write(self, job: AccountedJob) -> None:
        steps = await self._accounting.steps(job) if self._has_steps(job.job_id) else ()
        receipt = self._receipt(job.job_id, steps)
        if receipt is not None:
            await self._accounting.write(job, receipt)
        self._drop(job.job_id)
        self._odd = 0
        if self._problem:
            self._problem = ""
            self._fault(SUBJECT, "")

    def _later(self, job_id: str) -> None:
        now_seconds = clock.now().timestamp()
        waiting = self._waiting[job_id]
        if now_seconds - waiting.since_seconds > _GIVE_UP_SECONDS:
            self._give_up(
                job_id, f"Slurm's accounting did not take them in {_GIVE_UP_SECONDS / 86_400:.0f} days"
            )
        else:
            self._waiting[job_id] = waiting.later(now_seconds)
        self.changed = True

    def _drop(self, job_id: str) -> None:
        self._waiting.pop(job_id, None)
        self.changed = True

    def _give_up(self, job_id: str, reason: str) -> None:
        self._drop(job_id)
        self._given_up[reason] = self._given_up.get(reason, 0) + 1

    def _tell_given_up(self) -> None:
        """One entry for all of one reason: another tool may have the AdminComment of every job there is."""
        for reason, count in self._given_up.items():
            text = f"{count} receipts stay with powerctld (slurm-power jobs): {reason}"
            self._note("controller", "receipts kept", SUBJECT, text)
        self._given_up.clear()

    def _stop_for_a_while(self, error: str) -> None:
        now_seconds = clock.now().timestamp()
        self._odd += 1
        wait_seconds = min(_LONGEST_WAIT_SECONDS, _FIRST_TRY_SECONDS * 2.0 ** min(self._odd, 10))
        self._quiet_until_seconds = now_seconds + wait_seconds
        if not self._problem:
            self._fault(SUBJECT, f"Slurm's accounting takes no receipts, {len(self._waiting)} wait: {error}")
        self._problem = error

    def _close(self, error: str) -> None:
        """There is no accounting, and there will be none without a change of slurm.conf: not asked again."""
        self.closed = True
        self._waiting.clear()
        self.changed = True
        text = f"receipts stay with powerctld (slurm-power jobs): {error}"
        self._note("controller", "receipts kept", SUBJECT, text)


def _read(stored: object) -> dict[str, Waiting]:
    if not isinstance(stored, dict):
        return {}
    found = {}
    for job_id, row in stored.items():
        if isinstance(row, list) and len(row) == 3 and all(isinstance(value, int | float) for value in row):
            found[str(job_id)] = Waiting(float(row[0]), float(row[1]), int(row[2]))
    return found
