"""What a controller that has just taken over makes of its first readings."""

from dataclasses import replace

from slurm_power.telemetry import Levers, SiteTelemetry
from tests.plan import situations


def test_a_meter_read_before_the_battery_is_not_taken_for_the_whole_load() -> None:
    telemetry = SiteTelemetry(situations.site(), {"grid": ("meter", 3.0)})
    reading = situations.ess_reading()
    telemetry.meter_read("grid", 11_000.0, 10.0)
    telemetry.ess_read(reading.name, replace(reading, discharge_watts=3_500.0), 10.1, 3.0)
    levers = Levers(caps={}, holds={}, setpoints={reading.name: 3_500.0}, events=())
    found = telemetry.snapshot(situations.AT, 10.2, levers)
    # The battery carries 3.5 kW of the load that the meter does not show.
    assert all(watts >= 14_500.0 for watts in found.recent_load_watts)
