"""What was found of a running Slurm and its files: plain values, for proposals and findings."""

from collections.abc import Mapping
from dataclasses import dataclass, field

UNSET = frozenset({"", "(null)", "none", "n/a", "null"})
NO_TIMEOUT_SECONDS = 65534


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundNode:
    """A node as Slurm tells it. ``address`` is where its slurmd listens: simulated nodes share one."""

    name: str
    state: str
    gpu_count: int
    gpu_type: str
    version: str
    address: str
    features: tuple[str, ...]
    slurmd_start_epoch_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundPartition:
    """A partition; None for no limit."""

    name: str
    default_seconds: float | None
    most_seconds: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFile:
    """A file that was looked at. ``text`` is None where it is not there or cannot be read."""

    path: str
    text: str | None = None
    problem: str = ""
    mode: int = 0
    uid: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A running Slurm. ``settings`` are slurmctld's own, keys in lower case, unset ones left out.

    ``files`` holds by path slurm.conf, what it includes, plugstack.conf, job_submit.lua, and every hook that
    a setting names. ``racks`` are nodes by rack where features, topology or names show racks.
    """

    slurm_conf: str
    version: str
    settings: Mapping[str, str]
    nodes: tuple[FoundNode, ...]
    partitions: tuple[FoundPartition, ...]
    licenses: Mapping[str, int]
    reservations: tuple[str, ...]
    files: Mapping[str, FoundFile]
    hook_files: Mapping[str, tuple[str, ...]]
    racks: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    problems: tuple[str, ...] = ()

    def setting(self, key: str) -> str:
        """A setting's value, empty where it is not set."""
        return self.settings.get(key.lower(), "")

    def words(self, key: str) -> tuple[str, ...]:
        """The parts of a setting that is a list."""
        return tuple(word.strip() for word in self.setting(key).split(",") if word.strip())

    @property
    def directory(self) -> str:
        """Where slurm.conf lies, and everything that Slurm looks for beside it."""
        return self.slurm_conf.rpartition("/")[0] or "."

    @property
    def plugstack_conf(self) -> str:
        """The file that names SPANK plugins."""
        return self.setting("PlugStackConfig") or f"{self.directory}/plugstack.conf"

    @property
    def job_submit_lua(self) -> str:
        """The file that job_submit/lua runs."""
        return f"{self.directory}/job_submit.lua"

    @property
    def hook_timeout_seconds(self) -> float | None:
        """PrologEpilogTimeout, None where none is set."""
        digits = self.setting("PrologEpilogTimeout").split(" ")[0]
        seconds = int(digits) if digits.isdigit() else NO_TIMEOUT_SECONDS
        return None if seconds >= NO_TIMEOUT_SECONDS else float(seconds)

    @property
    def accounting(self) -> bool:
        """Whether there is a slurmdbd, which alone knows operators."""
        return self.setting("AccountingStorageType").endswith("slurmdbd")

    @property
    def shared_host(self) -> bool:
        """Whether several nodes are one host, as in a test cluster: then sockets carry the node's name."""
        addresses = [node.address for node in self.nodes]
        return len(set(addresses)) < len(addresses)

    @property
    def controller_host(self) -> str:
        """The address by which nodes reach the first controller."""
        host = self.setting("SlurmctldHost[0]")
        name, _, address = host.partition("(")
        return address.rstrip(")") or name

    @property
    def slurm_user(self) -> str:
        """Whom slurmctld runs as."""
        return self.setting("SlurmUser").partition("(")[0] or "root"

    @property
    def munge_socket(self) -> str | None:
        """MUNGE's socket where it is not the system's own."""
        words = [word.strip() for word in self.setting("AuthInfo").split(",")]
        return next((word.removeprefix("socket=") for word in words if word.startswith("socket=")), None)

    def text(self, path: str) -> str:
        """A file's text, empty where there is none."""
        file = self.files.get(path)
        return "" if file is None or file.text is None else file.text
