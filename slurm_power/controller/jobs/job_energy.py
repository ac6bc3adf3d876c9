"""What a job has used on all its nodes together, in the figures that its nodes report."""

import math
from collections.abc import Collection, Mapping

from slurm_power.wire import Message

# Joules that add up over the nodes, by the name that messages and records have for them.
SUMMED = ("estimated_joules", "shared_joules", "host_joules", "pdu_joules", "residual_joules")
COVERAGE = "coverage_ratio"


class JobEnergies:
    """The latest figures of every job by node."""

    def __init__(self) -> None:
        self._jobs: dict[str, dict[str, Mapping[str, float | None]]] = {}

    def take(self, job_id: str, node: str, message: Message) -> None:
        """Take a node's figures of a job; what is no number is unknown."""
        figures = {name: _number(message.get(name)) for name in (*SUMMED, COVERAGE)}
        self._jobs.setdefault(job_id, {})[node] = figures

    def of(self, job_id: str) -> dict[str, float | None]:
        """Sums over a job's nodes, None where one of them does not know; of coverage the worst."""
        nodes = self._jobs.get(job_id, {}).values()
        found: dict[str, float | None] = {}
        for name in SUMMED:
            values = [figures[name] for figures in nodes]
            known = [value for value in values if value is not None]
            found[name] = sum(known) if known and len(known) == len(values) else None
        ratios = [ratio for figures in nodes if (ratio := figures[COVERAGE]) is not None]
        found["energy_coverage_ratio"] = min(ratios, default=None)
        found["energy_node_count"] = len(nodes)
        return found

    def keep(self, jobs: Collection[str]) -> None:
        """Forget all others."""
        for job_id in [job_id for job_id in self._jobs if job_id not in jobs]:
            del self._jobs[job_id]


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
