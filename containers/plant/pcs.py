"""The PCS: SunSpec models 1, 701, 702, 704, 713 and 715 over Modbus/TCP in front of the battery physics.

701.W is positive while discharging. Writing setpoint, mode, enable or timer arms the reversion timer.
Refusals: exception 2 for points that cannot be written, 3 for values out of range, 6 while LOCAL.
"""

import math
import time
from collections.abc import Mapping

from pymodbus.constants import ExcCodes

from containers.plant.modbus import ModbusFront
from containers.plant.sunspec import Image, Value, scale_for
from slurm_power.simulate.constants import PcsConstants, SiteConstants
from slurm_power.simulate.pcs import Alarm, Pcs, PcsControl

JOULES_PER_WH = 3600.0
FAULTS = {
    "local": "715.LocRemCtl says LOCAL, commands are refused",
    "alarm": "trips with a DC over-voltage alarm; stays until AlarmReset after the fault has ended",
    "reversion_cosmetic": "reversion timers count down and revert nothing",
    "nan": "power, charge and health read as not implemented",
    "hot": "`value` degrees Celsius around the battery: its power is derated",
}
ARMING = ("WSetEna", "WSetMod", "WSet", "WSetPct", "WSetRvrtTms")
SETTINGS = ("WSetRvrt", "WSetPctRvrt", "WSetEnaRvrt", "WRmp", "WRmpRef")
WRITABLE = {(704, name) for name in ARMING + SETTINGS} | {
    (715, name) for name in ("ControllerHb", "AlarmReset", "OpCtl")
}
OFF, RUNNING, THROTTLED, SHUTTING_DOWN, FAULT, STANDBY = 0, 3, 4, 5, 6, 7
STOP, START = 0, 1
# Far beyond any weather: it lets a test heat the battery in seconds.
HOTTEST_CELSIUS = 3000.0
MODE_PERCENT, MODE_WATTS = 0, 1
NOT_IMPLEMENTED = ((701, "W", -0x8000), (713, "SoC", 0xFFFF), (713, "SoH", 0xFFFF))


def _models(pcs: PcsConstants) -> dict[int, Mapping[str, Value]]:
    """Return the first values of all points that this PCS implements."""
    power = scale_for(pcs.rated_watts * 1.2, 32767)
    capacity = scale_for(pcs.rated_capacity_wh, 65534)
    rated = round(pcs.rated_watts / 10**power)
    ratings = (
        "WMaxRtg",
        "WChaRteMaxRtg",
        "WDisChaRteMaxRtg",
        "VAMaxRtg",
        "WMax",
        "WChaRteMax",
        "WDisChaRteMax",
    )
    scales_701 = {
        "A_SF": -1,
        "V_SF": -1,
        "Hz_SF": -2,
        "W_SF": power,
        "PF_SF": -3,
        "VA_SF": power,
        "Var_SF": power,
    }
    scales_702 = {
        "W_SF": power,
        "VA_SF": power,
        "Var_SF": power,
        "PF_SF": -3,
        "V_SF": -1,
        "A_SF": -1,
        "S_SF": 0,
    }
    zero = (
        "WSetEna",
        "WSet",
        "WSetRvrt",
        "WSetPct",
        "WSetPctRvrt",
        "WSetEnaRvrt",
        "WSetRvrtTms",
        "WSetRvrtRem",
    )
    return {
        1: {"Mn": "Simulated", "Md": "PCS", "Vr": "1.0", "SN": "PCS-0001", "DA": 1},
        701: scales_701
        | {"TotWh_SF": 0, "TotVarh_SF": 0, "Tmp_SF": -1, "ACType": 2, "Alrm": 0, "DERMode": 1},
        702: scales_702 | dict.fromkeys(ratings, rated) | {"CtrlModes": 0b10},
        704: dict.fromkeys(zero, 0)
        | {"WSetMod": MODE_WATTS, "WRmp": math.ceil(100.0 / pcs.ramp_full_seconds), "WRmpRef": 1}
        | {
            "WSet_SF": 0,
            "WSetPct_SF": -1,
            "PF_SF": -3,
            "WMaxLimPct_SF": -1,
            "VarSet_SF": 0,
            "VarSetPct_SF": -1,
        },
        713: {
            "WHRtg": round(pcs.rated_capacity_wh / 10**capacity),
            "WH_SF": capacity,
            "Pct_SF": -1,
            "Sta": 0,
        },
        715: {"LocRemCtl": 0, "DERHb": 0, "ControllerHb": 0, "AlarmReset": 0, "OpCtl": START},
    }


class PcsFront(ModbusFront):
    """The registers in front of one PCS with its battery."""

    def __init__(self, pcs: Pcs, site: SiteConstants, *, host: str, port: int) -> None:
        super().__init__(Image(_models(pcs.constants)), FAULTS, host, port)
        self.pcs, self.site = pcs, site
        self._known_control = pcs.control
        self._writable = {
            address for model, name in WRITABLE for address in self.image.addresses(model, name)
        }
        self.refresh()

    def set_fault(self, kind: str, value: float, duration_seconds: float | None) -> None:
        """Switch a fault on; raises ValueError for an unknown kind or a temperature no register can hold."""
        if kind == "hot" and not abs(value) <= HOTTEST_CELSIUS:
            raise ValueError(f"hot: {value:g} is not within {HOTTEST_CELSIUS:g} degrees of zero")
        super().set_fault(kind, value, duration_seconds)

    def clear_faults(self) -> None:
        """Switch all faults off; an alarm stays until AlarmReset."""
        super().clear_faults()
        self.advance()

    def advance(self) -> None:
        """Bring faults and physics to the present."""
        self._follow_faults()
        self.pcs.advance(time.monotonic())

    def refresh(self) -> None:
        """Show the physics of this moment in the registers."""
        self.advance()
        self._show_measurements()
        self._show_state()
        self._show_control()

    def _follow_faults(self) -> None:
        pcs = self.pcs
        local = self.faults.on("local")
        if local != pcs.local:
            pcs.set_local(local)
        if self.faults.on("alarm"):
            if not pcs.active_faults & Alarm.DC_OVER_VOLT:
                pcs.trip(Alarm.DC_OVER_VOLT)
        else:
            pcs.end_fault(Alarm.DC_OVER_VOLT)
        pcs.reversion_works = not self.faults.on("reversion_cosmetic")
        ambient = self.faults.value("hot")
        pcs.ambient_celsius = pcs.constants.ambient_celsius if ambient is None else ambient

    def _show_measurements(self) -> None:
        pcs, image = self.pcs, self.image
        line_volts = self.site.phase_voltage_volts * 3.0**0.5
        for name in ("W", "VA"):
            watts = pcs.discharge_watts if name == "W" else abs(pcs.discharge_watts)
            image.put(701, name, watts)
            for phase in ("L1", "L2", "L3"):
                image.put(701, f"{name}{phase}", watts / 3.0)
        image.put(701, "Var", 0.0)
        image.put(701, "PF", 1.0)
        image.put(701, "A", abs(pcs.discharge_watts) / self.site.phase_voltage_volts)
        image.put(701, "LLV", line_volts)
        image.put(701, "LNV", self.site.phase_voltage_volts)
        image.put(701, "Hz", self.site.frequency_hertz)
        image.put_raw(701, "TotWhInj", int(pcs.injected_joules / JOULES_PER_WH))
        image.put_raw(701, "TotWhAbs", int(pcs.absorbed_joules / JOULES_PER_WH))
        image.put(701, "TmpAmb", pcs.ambient_celsius)
        image.put(701, "TmpCab", pcs.temperature_celsius)
        image.put(713, "WHAvail", pcs.stored_joules / JOULES_PER_WH)
        image.put(713, "SoC", 100.0 * pcs.soc_ratio)
        image.put(713, "SoH", 100.0 * pcs.constants.state_of_health_ratio)
        if self.faults.on("nan"):
            for model, name, raw in NOT_IMPLEMENTED:
                image.put_raw(model, name, raw)

    def _show_state(self) -> None:
        pcs, image = self.pcs, self.image
        image.put_raw(701, "St", int(pcs.started and not pcs.alarms))
        image.put_raw(701, "InvSt", self._inverter_state())
        image.put_raw(701, "ConnSt", int(not pcs.alarms))
        image.put_raw(701, "Alrm", int(pcs.alarms))
        image.put_raw(713, "Sta", 2 if pcs.alarms else 0)
        image.put_raw(715, "LocRemCtl", int(pcs.local))
        image.put_raw(715, "DERHb", int(pcs.now_seconds) % 2**31)
        image.put_raw(715, "OpCtl", START if pcs.started else STOP)

    def _inverter_state(self) -> int:
        pcs = self.pcs
        if pcs.alarms:
            return FAULT
        if not pcs.started:
            return OFF if pcs.discharge_watts == 0.0 else SHUTTING_DOWN
        if pcs.throttled:
            return THROTTLED
        return RUNNING if pcs.control.enabled or pcs.discharge_watts != 0.0 else STANDBY

    def _show_control(self) -> None:
        """Show what the PCS itself changed: a reversion, a missed heartbeat, LOCAL."""
        control, image = self.pcs.control, self.image
        image.put_raw(704, "WSetRvrtRem", math.ceil(self.pcs.reversion_remaining_seconds))
        if control is self._known_control:
            return
        image.put_raw(704, "WSetEna", int(control.enabled))
        if image.raw(704, "WSetMod") == MODE_WATTS:
            image.put(704, "WSet", control.setpoint_watts)
        else:
            image.put(704, "WSetPct", 100.0 * control.setpoint_watts / self.pcs.constants.rated_watts)
        self._known_control = control

    def write(self, addresses: range, registers: list[int]) -> ExcCodes | None:
        """Take a write into 704 or 715, or say with which exception it is refused."""
        if not self._writable.issuperset(addresses):
            return ExcCodes.ILLEGAL_ADDRESS
        touched = {key for key in WRITABLE if set(self.image.addresses(*key)) & set(addresses)}
        if self.pcs.local and touched != {(715, "ControllerHb")}:
            return ExcCodes.DEVICE_BUSY
        if any(model == 704 for model, _ in touched):
            try:
                control = self._control(registers)
                self.pcs.command(control, arm=any((704, name) in touched for name in ARMING))
            except ValueError:
                return ExcCodes.ILLEGAL_VALUE
            self._known_control = control
        if (715, "ControllerHb") in touched:
            self.pcs.heartbeat()
        if (715, "AlarmReset") in touched and self.image.raw(715, "AlarmReset", registers) == 1:
            self.pcs.reset_alarms()
        if (715, "OpCtl") in touched:
            return self._operate(self.image.raw(715, "OpCtl", registers))
        return None

    def _operate(self, operation: int) -> ExcCodes | None:
        if operation not in (STOP, START):
            return ExcCodes.ILLEGAL_VALUE
        if operation == START:
            self.pcs.start()
        else:
            self.pcs.stop()
        return None

    def _control(self, registers: list[int]) -> PcsControl:
        """Read the whole of model 704 as a control; raises ValueError for what no point may hold."""
        raw = {name: self.image.raw(704, name, registers) for name in ARMING + SETTINGS}
        for name in ("WSetEna", "WSetEnaRvrt", "WSetMod", "WRmpRef"):
            if raw[name] not in (0, 1):
                raise ValueError(f"{name}: {raw[name]} is neither 0 nor 1")
        if raw["WRmp"] == 0:
            raise ValueError("WRmp: a setpoint could never be reached")
        if raw["WSetMod"] == MODE_WATTS:
            setpoint, reversion = (self.image.value(704, name, registers) for name in ("WSet", "WSetRvrt"))
        else:
            rated = self.pcs.constants.rated_watts
            setpoint, reversion = (
                self.image.value(704, name, registers) / 100.0 * rated for name in ("WSetPct", "WSetPctRvrt")
            )
        return PcsControl(
            enabled=bool(raw["WSetEna"]),
            setpoint_watts=setpoint,
            reversion_enabled=bool(raw["WSetEnaRvrt"]),
            reversion_setpoint_watts=reversion,
            reversion_seconds=float(raw["WSetRvrtTms"]),
            ramp_ratio_per_second=raw["WRmp"] / 100.0,
        )
