"""The grid meter: SunSpec models 1 and 203 (three-phase wye) over Modbus/TCP. Import is positive.

Once a second the registers take the mean since the last refresh, as a meter's window does.
"""

from dataclasses import dataclass

from containers.plant.modbus import ModbusFront
from containers.plant.sunspec import Image, scale_for
from slurm_power.simulate.constants import MeterConstants, SiteConstants

JOULES_PER_WH = 3600.0
PHASES = ("A", "B", "C")
FAULTS = {
    "freeze": "registers keep their values",
    "nan": "power registers hold the not-implemented value",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GridReading:
    """What the meter has seen since its last refresh. Energies are totals since the start."""

    mean_import_watts: float
    imported_joules: float
    exported_joules: float


class Meter(ModbusFront):
    """The meter at the grid connection."""

    def __init__(
        self,
        meter: MeterConstants,
        site: SiteConstants,
        *,
        greatest_watts: float,
        host: str,
        port: int,
    ) -> None:
        self.meter, self.site = meter, site
        power_scale = scale_for(greatest_watts, 32767)
        while 10**power_scale < meter.resolution_watts:
            power_scale += 1
        greatest_amperes = greatest_watts / site.phase_voltage_volts
        amperes_scale = scale_for(greatest_amperes, 3276) - 1
        scales = {"A_SF": amperes_scale, "V_SF": -1, "Hz_SF": -2, "W_SF": power_scale}
        scales |= {"VA_SF": power_scale, "VAR_SF": power_scale, "PF_SF": -2, "TotWh_SF": 0}
        image = Image(
            {
                1: {"Mn": "Simulated", "Md": "GridMeter", "Vr": "1.0", "SN": "GM-0001", "DA": 1},
                203: scales | {"TotVAh_SF": 0, "TotVArh_SF": 0, "Evt": 0},
            }
        )
        super().__init__(image, FAULTS, host, port)
        self.take(GridReading(mean_import_watts=0.0, imported_joules=0.0, exported_joules=0.0))

    def take(self, reading: GridReading) -> None:
        """Refresh the registers; while frozen they keep what they had."""
        if self.faults.on("freeze"):
            return
        self._put_power(reading.mean_import_watts)
        voltage = self.site.phase_voltage_volts
        for suffix in ("", "phA", "phB", "phC"):
            self.image.put(203, f"PhV{suffix}", voltage)
        for suffix in ("PPV", "PhVphAB", "PhVphBC", "PhVphCA"):
            self.image.put(203, suffix, voltage * 3.0**0.5)
        self.image.put(203, "Hz", self.site.frequency_hertz)
        # A 32-bit counter of watt-hours goes round.
        self.image.put_raw(203, "TotWhImp", int(reading.imported_joules / JOULES_PER_WH) % 2**32)
        self.image.put_raw(203, "TotWhExp", int(reading.exported_joules / JOULES_PER_WH) % 2**32)
        if self.faults.on("nan"):
            for name in ("W", "WphA", "WphB", "WphC"):
                self.image.put_not_implemented(203, name)

    def _put_power(self, watts: float) -> None:
        power_factor = self.site.power_factor_ratio
        shares = (self.meter.first_phase_ratio, self.meter.second_phase_ratio)
        parts = [share * watts for share in (*shares, 1.0 - sum(shares))]
        amperes = 0.0
        for phase, part in zip(PHASES, parts, strict=True):
            apparent = abs(part) / power_factor
            self.image.put(203, f"Wph{phase}", part)
            self.image.put(203, f"VAph{phase}", apparent)
            self.image.put(203, f"Aph{phase}", apparent / self.site.phase_voltage_volts)
            self.image.put(203, f"PFph{phase}", power_factor)
            amperes += apparent / self.site.phase_voltage_volts
        apparent = abs(watts) / power_factor
        self.image.put(203, "W", watts)
        self.image.put(203, "VA", apparent)
        self.image.put(203, "VAR", (apparent**2 - watts**2) ** 0.5)
        self.image.put(203, "PF", power_factor)
        self.image.put(203, "A", amperes)
