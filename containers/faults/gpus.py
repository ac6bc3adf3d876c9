"""GPUs in memory, behind the port of the real ones, that fail in every way these do."""

from dataclasses import dataclass

from slurm_power.model.reading import CapReading, GpuReading
from slurm_power.ports import DeviceError

OWN_CLOCK_HERTZ = 1.98e9
IDLE_CLOCK_HERTZ = 3.45e8


class KilledError(BaseException):
    """The process died here: nothing after it is done, and nobody may catch it."""


@dataclass(slots=True, kw_only=True)
class FakeGpu:
    """One GPU and what is wrong with it."""

    requested_watts: float = 700.0
    out_of_band_watts: float = 1000.0
    lost: bool = False
    refuses_writes: bool = False
    ignores_writes: bool = False
    writes_then_fails: bool = False
    settle_reads: int = 0
    shown_watts: float = 700.0
    reads_until_settled: int = 0
    lock_hertz: float | None = None
    busy: bool = True


class FakeGpus:
    """GPUs in memory. ``kill_at`` counts device calls down to the one at which the process dies."""

    def __init__(self, *uuids: str) -> None:
        self.gpus = {uuid: FakeGpu() for uuid in uuids}
        self.kill_at: int | None = None
        self.is_open = False

    def open(self) -> None:
        """Start the driver."""
        self.is_open = True

    def close(self) -> None:
        """Stop it."""
        self.is_open = False

    def uuids(self) -> list[str]:
        """The GPUs that answer."""
        return [uuid for uuid, gpu in self.gpus.items() if not gpu.lost]

    def read(self, uuid: str) -> GpuReading:
        """Read one GPU."""
        cap = self.read_cap(uuid)
        return GpuReading(
            uuid=uuid,
            slot=list(self.gpus).index(uuid),
            name="Fake",
            power_watts=100.0,
            energy_joules=None,
            utilization_ratio=0.0,
            sm_clock_hertz=1e9,
            temperature_celsius=30.0,
            requested_cap_watts=cap.requested_watts,
            enforced_cap_watts=cap.enforced_watts,
            default_cap_watts=700.0,
            min_cap_watts=200.0,
            max_cap_watts=700.0,
        )

    def read_energy_joules(self, uuid: str) -> float | None:
        """It has no counter."""
        self._gpu(uuid)
        return None

    def process_ids(self, uuid: str) -> list[int]:
        """Nobody computes on it."""
        self._gpu(uuid)
        return []

    def read_cap(self, uuid: str) -> CapReading:
        """The limit as shown."""
        self._maybe_die()
        gpu = self._gpu(uuid)
        if gpu.reads_until_settled > 0:
            gpu.reads_until_settled -= 1
        else:
            gpu.shown_watts = gpu.requested_watts
        enforced_watts = min(gpu.shown_watts, gpu.out_of_band_watts)
        return CapReading(requested_watts=gpu.shown_watts, enforced_watts=enforced_watts)

    def set_cap_watts(self, uuid: str, cap_watts: float) -> None:
        """Write a limit."""
        self._maybe_die()
        gpu = self._gpu(uuid)
        if gpu.refuses_writes or not 200.0 <= cap_watts <= 700.0:
            raise DeviceError(f"{uuid}: refused")
        if not gpu.ignores_writes:
            gpu.requested_watts = cap_watts
            gpu.reads_until_settled = gpu.settle_reads
        self._maybe_die()
        if gpu.writes_then_fails:
            raise DeviceError(f"{uuid}: time-out")

    def read_sm_clock_hertz(self, uuid: str) -> float:
        """The clock now."""
        self._maybe_die()
        gpu = self._gpu(uuid)
        most_hertz = OWN_CLOCK_HERTZ if gpu.lock_hertz is None else gpu.lock_hertz
        return most_hertz if gpu.busy else IDLE_CLOCK_HERTZ

    def lock_clock(self, uuid: str, most_hertz: float | None) -> None:
        """Never ignored without a word: nothing could tell, since no lock can be read back."""
        self._maybe_die()
        gpu = self._gpu(uuid)
        if gpu.refuses_writes:
            raise DeviceError(f"{uuid}: refused")
        gpu.lock_hertz = most_hertz
        self._maybe_die()
        if gpu.writes_then_fails:
            raise DeviceError(f"{uuid}: time-out")

    def _gpu(self, uuid: str) -> FakeGpu:
        gpu = self.gpus.get(uuid)
        if gpu is None or gpu.lost:
            raise DeviceError(f"{uuid}: lost")
        return gpu

    def _maybe_die(self) -> None:
        if self.kill_at is not None:
            self.kill_at -= 1
            if self.kill_at <= 0:
                self.kill_at = None
                raise KilledError
