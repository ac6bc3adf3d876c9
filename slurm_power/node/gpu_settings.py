"""The settings that can be leased, behind one pair of calls: power caps in watts, clock locks in hertz."""

import math

from slurm_power.model.lease import LeaseKey, Lever
from slurm_power.node.orders import SettingReading
from slurm_power.ports import Gpus


class GpuSettings:
    """Reads and writes a bound by its lever. All calls raise DeviceError."""

    def __init__(self, gpus: Gpus) -> None:
        self._gpus = gpus

    def read(self, key: LeaseKey) -> SettingReading:
        """What was asked for last and what is in force; no driver tells what a clock is locked to."""
        if key.lever is Lever.CLOCK_LOCK:
            return SettingReading(requested=None, enforced=self._gpus.read_sm_clock_hertz(key.uuid))
        cap = self._gpus.read_cap(key.uuid)
        return SettingReading(requested=cap.requested_watts, enforced=cap.enforced_watts)

    def write(self, key: LeaseKey, bound: float) -> None:
        """Set a bound; infinity takes a clock lock away. Success proves nothing: read it back."""
        if key.lever is Lever.CLOCK_LOCK:
            self._gpus.lock_clock(key.uuid, None if math.isinf(bound) else bound)
        else:
            self._gpus.set_cap_watts(key.uuid, bound)
