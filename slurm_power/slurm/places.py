"""Where things of slurm-power lie on a site's hosts."""

from dataclasses import dataclass

DEFAULT_CONFIG_DIRECTORY = "/etc/slurm-power"
DEFAULT_STATE_DIRECTORY = "/var/lib/slurm-power"
DEFAULT_RUN_DIRECTORY = "/run/slurm-power"
DEFAULT_UNIT_DIRECTORY = "/etc/systemd/system"
DEFAULT_PORT = 6820


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Folders and addresses, all absolute. ``programs`` is the folder of powerd and powerctld."""

    slurm_directory: str
    controller_host: str
    programs: str
    port: int = DEFAULT_PORT
    config_directory: str = DEFAULT_CONFIG_DIRECTORY
    state_directory: str = DEFAULT_STATE_DIRECTORY
    run_directory: str = DEFAULT_RUN_DIRECTORY
    unit_directory: str = DEFAULT_UNIT_DIRECTORY

    @property
    def hooks_directory(self) -> str:
        """Where hooks, plugin and our part of job_submit lie, beside slurm.conf."""
        return f"{self.slurm_directory}/slurm-power"

    @property
    def controller(self) -> str:
        """powerctld's address for nodes."""
        return f"{self.controller_host}:{self.port}"

    @property
    def loopback(self) -> bool:
        """Whether everything is on one host."""
        return self.controller_host.startswith("127.") or self.controller_host in {"localhost", "::1"}
