"""A scrape of powerctld: what is told is gathered in its own loop, and put into words beside it."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from slurm_power.controller.records.metrics import Own, exposition
from slurm_power.store.background import BackgroundSeries

if TYPE_CHECKING:
    from slurm_power.controller.daemon import Controller


@dataclass(slots=True)
class CycleFigures:
    """Cycles of this controller so far, those that broke, and the time of the last one."""

    done: int = 0
    failed: int = 0
    last_seconds: float = 0.0

    def add(self, spent_seconds: float, *, failed: bool) -> None:
        """Count a cycle."""
        self.done += 1
        self.failed += failed
        self.last_seconds = spent_seconds


def page(
    controller: "Controller", series: BackgroundSeries | None, connected_nodes: int
) -> Callable[[], str]:
    """Gather one moment; the function returned writes its page and may run in another thread."""
    leases = controller.telemetry.node_leases().items()
    own = Own(
        uptime_seconds=controller.uptime_seconds(),
        cycle_seconds=controller.cycle_figures.last_seconds,
        cycles=controller.cycle_figures.done,
        failed_cycles=controller.cycle_figures.failed,
        control=controller.mode == "control",
        connected_nodes=connected_nodes,
        shortfalls=sum(short.from_seconds <= 0.0 for short in controller.plan.shortfalls),
        queued_ticks=series.queued_ticks if series else 0,
        lost_ticks=series.lost_ticks if series else 0,
        copy_stale=bool(controller.store.copy_problem),
        forecast_worker=controller.forecasts.worker(controller.now().timestamp())["state"] == "running",
        forecasts=controller.forecasts.said(),
        lease_states=Counter((node, str(lease.get("state"))) for node, held in leases for lease in held),
    )
    return partial(
        exposition,
        controller.snapshot(),
        controller.config.policy,
        own,
        dict(controller.telemetry.energies_joules()),
        users=controller.config.metrics.users,
    )
