"""Keeps the file that job_submit.lua reads: settings at once, what was learned now and then."""

import asyncio
import os

from slurm_power import clock
from slurm_power.config import SiteConfig
from slurm_power.controller.jobs.job_expectations import JobExpectations
from slurm_power.forecast.job_power import LearnedLevel
from slurm_power.model.admission import LicenceCount
from slurm_power.model.job import Workload
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.curves import expected_gpu_watts
from slurm_power.plan.policy import Policy
from slurm_power.slurm.admission_file import FORM, file_text, write_file

_LEARNED_SECONDS = 60.0
# So many are taken from what was learned before the control loop gets its turn.
_AT_ONCE = 500


class AdmissionFile:
    """The file of one controller."""

    def __init__(self, config: SiteConfig, circuit: str, expectations: JobExpectations) -> None:
        self._config, self._policy, self._site = config.admission, config.policy, config.site
        self._expectations = expectations
        self.factor = max(
            (
                dict(self._site.path_factors(one.name)).get(circuit, 1.0)
                for one in self._site.circuits.values()
                if one.nodes
            ),
            default=1.0,
        )
        self._written: tuple[object, ...] = ()
        self._taught, self._taught_seconds = -1, float("-inf")
        self._learned: list[LearnedLevel] = []

    def use_policy(self, policy: Policy) -> None:
        """Go by another policy from now on."""
        self._policy = policy

    def gpu_job_watts(self, gpu_watts: float) -> float:
        """What a GPU of a job that draws so much, with its share of the host, adds at the circuit."""
        above = gpu_watts - self._policy.idle_gpu_watts + self._policy.host_watts_per_gpu
        return max(0.0, above) * self.factor

    async def write(
        self, snapshot: Snapshot, count: LicenceCount | None, *, hres: bool, het_parts: bool
    ) -> str:
        """Write it where anything has changed; returns what went wrong, "" if nothing did.

        ``het_parts``: each part of a het job may have licences, not only the first.
        """
        settings: dict[str, str | int | float] = {"factor": self.factor, "uid": os.getuid()}
        settings |= {
            "idle_gpu": self._policy.idle_gpu_watts,
            "host_per_gpu": self._policy.host_watts_per_gpu,
            "per_cpu": self._config.cpu_watts,
            "per_node": self._config.node_watts,
            "node_gpus": max((len(node.gpus) for node in snapshot.nodes.values()), default=0),
        }
        if count is not None:
            settings |= {"licence": self._config.licence, "total": count.total}
        if het_parts:
            settings["het_parts"] = 1
        if hres and self._config.hres:
            settings["hres"] = self._config.hres
        now_seconds = clock.monotonic()
        taught, learned = self._expectations.learned()
        if taught != self._taught and now_seconds - self._taught_seconds >= _LEARNED_SECONDS:
            found = []
            for number, level in enumerate(learned):
                found.append(level)
                if number % _AT_ONCE == _AT_ONCE - 1:
                    await asyncio.sleep(0)
            self._taught, self._taught_seconds, self._learned = taught, now_seconds, found
        state = (tuple(settings.items()), self._taught)
        if state == self._written:
            return ""
        classes = {workload.value: expected_gpu_watts(workload, self._policy) for workload in Workload}
        try:
            await asyncio.to_thread(self._write, settings, classes, self._learned)
        except OSError as error:
            return f"{self._config.file} cannot be written: {error}"
        self._written = state
        return ""

    def _write(
        self, settings: dict[str, str | int | float], classes: dict[str, float], learned: list[LearnedLevel]
    ) -> None:
        write_file(self._config.file, file_text(settings, classes, learned))

    def remove(self) -> bool:
        """Take the file away, so that jobs ask for no watts; False where there is none of ours."""
        try:
            with self._config.file.open() as stream:
                if not stream.readline().startswith(FORM):
                    return False
            self._config.file.unlink()
        except OSError:
            return False
        return True
