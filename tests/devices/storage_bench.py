"""An inverter with SunSpec models 124 and 802 over Modbus/TCP, with a battery that fills and empties."""

import time

from pymodbus.constants import ExcCodes

from containers.plant.modbus import ModbusFront
from containers.plant.sunspec import Image, Value

MAX_WATTS = 10_000.0
CAPACITY_WH = 20_000.0
WRITABLE = ("StorCtl_Mod", "OutWRte", "InWRte", "InOutWRte_RvrtTms")
MODELS: dict[int, dict[str, Value]] = {
    1: {"DA": 1},
    124: {
        "WChaMax": 1_000,
        "WChaMax_SF": 1,
        "WChaGra": 100,
        "WDisChaGra": 100,
        "WChaDisChaGra_SF": 0,
        "StorCtl_Mod": 0,
        "OutWRte": 10_000,
        "InWRte": 10_000,
        "InOutWRte_SF": -2,
        "InOutWRte_RvrtTms": 0,
        "ChaSt": 6,
    },
    802: {
        "AHRtg": 400,
        "AHRtg_SF": 0,
        "WHRtg": 200,
        "WHRtg_SF": 2,
        "WChaDisChaMax_SF": 2,
        "SoC_SF": -1,
        "WChaRteMax": 90,
        "WDisChaRteMax": 100,
        "SoC": 500,
        "SoH": 97,
        "SoH_SF": 0,
        "LocRemCtl": 0,
        "SoCMax": 950,
        "SoCMin": 50,
        "SoCRsvMin": 100,
        "CtrlHb": 0,
        "AlmRst": 0,
        "Typ": 4,
        "State": 3,
        "Evt1": 0,
        "Evt2": 0,
        "EvtVnd1": 0,
        "EvtVnd2": 0,
        "V": 5_000,
        "V_SF": -1,
        "A": 0,
        "A_SF": -1,
        "W": 0,
        "W_SF": 1,
        "SetOp": 1,
        "SetInvState": 3,
    },
}


class StorageFront(ModbusFront):
    """``own_watts`` is what it gives when nobody bounds it; ``w_sign`` -1 where charging reads positive."""

    def __init__(self, port: int, *, w_sign: float = 1.0, takes_heartbeat: bool = True) -> None:
        super().__init__(Image(MODELS), {}, "127.0.0.1", port)
        self.own_watts = 0.0
        self.w_sign, self.takes_heartbeat = w_sign, takes_heartbeat
        self.soc_ratio = 0.5
        self.reverts = True
        self.ends_at_seconds = float("inf")
        self.bounds_crossed = False
        self.frozen = self.forgets = False
        self.beats = 0
        self._at_seconds = time.monotonic()

    def addresses(self, model: int, name: str) -> range:
        return self.image.addresses(model, name)

    @property
    def discharge_watts(self) -> float:
        """What flows now: its own wish within the bounds that are on."""
        mode = self.image.raw(124, "StorCtl_Mod")
        out_watts = self.image.value(124, "OutWRte") / 100.0 * MAX_WATTS if mode & 2 else MAX_WATTS
        in_watts = self.image.value(124, "InWRte") / 100.0 * MAX_WATTS if mode & 1 else MAX_WATTS
        self.bounds_crossed = self.bounds_crossed or out_watts < -in_watts
        return max(-in_watts, min(out_watts, self.own_watts))

    def refresh(self) -> None:
        if self.frozen:
            return
        now = time.monotonic()
        if self.reverts and now >= self.ends_at_seconds:
            self.image.put_raw(124, "StorCtl_Mod", 0)
            self.ends_at_seconds = float("inf")
        watts = self.discharge_watts
        self.soc_ratio -= watts * (now - self._at_seconds) / 3600.0 / CAPACITY_WH
        self._at_seconds = now
        self.image.put(802, "W", self.w_sign * watts)
        self.image.put(802, "A", self.w_sign * watts / 500.0)
        self.image.put(802, "SoC", 100.0 * self.soc_ratio)

    def write(self, addresses: range, registers: list[int]) -> ExcCodes | None:
        if addresses == self.addresses(802, "CtrlHb"):
            self.beats += 1
            return None if self.takes_heartbeat else ExcCodes.ILLEGAL_ADDRESS
        names = [name for name in WRITABLE if addresses == self.addresses(124, name)]
        if not names:
            return ExcCodes.ILLEGAL_ADDRESS
        if self.image.raw(802, "LocRemCtl") == 1:
            return ExcCodes.DEVICE_BUSY
        if self.forgets:
            registers[:] = self.image.registers
            return None
        seconds = self.image.raw(124, "InOutWRte_RvrtTms", registers)
        self.ends_at_seconds = time.monotonic() + seconds if seconds else float("inf")
        return None
