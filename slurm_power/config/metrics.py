"""The ``[metrics]`` table: where powerctld can be scraped, and what it tells there."""

from dataclasses import dataclass

from slurm_power.config.node_record import split_address


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricsConfig:
    """Where powerctld answers Prometheus, if it does."""

    listen: str | None = None
    users: bool = False

    def problems(self) -> list[str]:
        """What is wrong, each problem with its key."""
        found: list[str] = []
        if self.listen is not None:
            split_address(self.listen, "listen", found)
        return found
