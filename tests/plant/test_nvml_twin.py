"""The C library and its Python twin play the same random day and must agree on every state."""

import random
from pathlib import Path

import pytest

from containers.plant.nvml_control import FaultKind, GpuConstants
from slurm_power.simulate.constants import load_constants
from slurm_power.simulate.gpu import Gpu, GpuLoad
from tests.plant.nvml_bench import Bench, open_bench

PLANT_FILE = Path(__file__).parents[2] / "containers" / "plant" / "plant.toml"
STEPS = 400


def act(bench: Bench, twin: Gpu, chance: random.Random) -> None:
    """Do one random thing to both."""
    constants = twin.constants
    match chance.randrange(7):
        case 0 | 1 | 2:
            demand = chance.uniform(100.0, 1.5 * constants.limit_max_watts)
            static, bound = demand * chance.uniform(0.0, 0.5), chance.uniform(0.0, 1.0)
            lease = chance.choice([0.05, 0.3, 2.0, 1000.0])
            bench.gpus.set_load(
                0,
                demand_watts=demand,
                static_watts=static,
                compute_bound_ratio=bound,
                lease_seconds=lease,
                resident=False,
            )
            twin.set_load(
                GpuLoad(
                    demand_watts=demand,
                    static_watts=static,
                    compute_bound_ratio=bound,
                    expires_at_seconds=twin.now_seconds + lease,
                )
            )
        case 3:
            limit = chance.uniform(constants.limit_min_watts, constants.limit_max_watts)
            bench.gpus.write_foreign_limit(0, limit)
            twin.set_limit(limit)
        case 4:
            limit = chance.uniform(0.5 * constants.limit_min_watts, constants.limit_max_watts)
            if chance.random() < 0.5:
                bench.gpus.set_fault(0, FaultKind.OUT_OF_BAND_LIMIT, value=limit)
                twin.set_out_of_band_limit(limit)
            else:
                bench.gpus.clear_fault(0, FaultKind.OUT_OF_BAND_LIMIT)
                twin.set_out_of_band_limit(None)
        case 5:
            resident = chance.random() < 0.5
            (bench.gpus.add_process if resident else bench.gpus.remove_process)(0, 4242)
            twin.set_resident(resident)
        case _:
            bench.gpus.clear_load(0)
            twin.set_load(None)


@pytest.mark.parametrize("seed", range(4))
def test_twins_agree(nvml_library: Path, tmp_path: Path, seed: int) -> None:
    plant = load_constants(PLANT_FILE)
    values = {name: getattr(plant.gpu, name) for name in GpuConstants.__dataclass_fields__}
    bench = open_bench(nvml_library, tmp_path, GpuConstants(**values))
    chance = random.Random(seed)
    with bench.gpus:
        start = bench.gpus.truth(0)
        twin = Gpu(plant.gpu, start.now_seconds)
        for _ in range(STEPS):
            act(bench, twin, chance)
            bench.gpus.pass_time(chance.choice([0.001, 0.03125, 0.1, 0.37, 1.0, 7.3]))
            truth = bench.gpus.truth(0)
            twin.advance(truth.now_seconds)
            assert truth.instant_watts == pytest.approx(twin.power_watts, rel=1e-9)
            if truth.now_seconds - start.now_seconds > 1.1:  # the twin is a little younger than the GPU
                assert truth.average_watts == pytest.approx(twin.power_average_watts, rel=1e-9)
            assert truth.performance_ratio == pytest.approx(twin.performance_ratio, rel=1e-9, abs=1e-12)
            assert truth.clock_megahertz == pytest.approx(twin.clock_megahertz, rel=1e-9)
            assert truth.temperature_celsius == pytest.approx(twin.temperature_celsius, rel=1e-9)
            assert truth.limit_enforced_watts == twin.limit_enforced_watts
            assert (truth.reasons & 0x4 != 0) == twin.capped
        assert truth.energy_joules - start.energy_joules == pytest.approx(twin.energy_joules, rel=1e-9)
        assert truth.work_seconds == pytest.approx(twin.work_seconds, rel=1e-9)
        assert truth.energy_joules > 1000.0
        assert truth.capped_seconds > 1.0
