"""A workload manager without a job, that takes whatever is asked of it."""

from collections.abc import Sequence

from slurm_power.model.job import Job
from slurm_power.model.pool import Pool


class QuietQueue:
    """Implements the scheduler port; tests override what they need."""

    async def jobs(self) -> tuple[Job, ...]:
        return ()

    async def pools(self) -> tuple[Pool, ...]:
        return ()

    async def relocate(self, job_id: str, avoid: Sequence[str], reason: str) -> None: ...

    async def hold(self, job_id: str, seconds: float, reason: str) -> None: ...

    async def release(self, job_id: str) -> None: ...

    async def pause(self, job_id: str, seconds: float, reason: str) -> None: ...

    async def resume(self, job_id: str) -> None: ...

    async def requeue(self, job_id: str) -> None: ...

    async def queue_saved(self, job_id: str) -> bool:
        return not job_id

    async def change_tier(
        self, job_id: str, tier: str, gpu_count: int, start_in_seconds: float | None, reason: str
    ) -> None: ...
