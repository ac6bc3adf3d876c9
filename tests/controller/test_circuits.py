"""The levels of the tree against each other: who is wrong, and what stands in for a meter that is."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.model.reading import PowerReading, Quality
from slurm_power.telemetry.circuits import CircuitMeters, Draw
from tests.plan.situations import site

NODES = {"rack1": ("c1", "c2"), "rack2": ("c3", "c4")}
HOSTS_WATTS = 1_500.0


class Plant:
    """Two racks below a grid meter, each with a load that wanders; meters that can be made to lie."""

    def __init__(self, *, with_ess: bool = False) -> None:
        where = site(with_ess=with_ess)
        self.meters = CircuitMeters(
            where, {"grid": ("meter", 3.0), "rack1": ("pdu1", 6.0), "rack2": ("pdu2", 6.0)}
        )
        assert {name: where.circuits[name].nodes for name in NODES} == NODES
        self.chance = random.Random(3)
        self.now = 0.0
        self.gpus = {node: 1_000.0 for nodes in NODES.values() for node in nodes}
        self.lies: dict[str, float] = {}
        self.frozen: dict[str, float] = {}
        self.silent: set[str] = set()
        self.lost: set[str] = set()

    def true(self, circuit: str) -> float:
        if circuit == "grid":
            return 1.02 * (self.true("rack1") + self.true("rack2"))
        return HOSTS_WATTS + 1.05 * sum(self.gpus[node] for node in NODES[circuit])

    def run(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now += 1.0
            if self.chance.random() < 0.1:
                node = self.chance.choice(list(self.gpus))
                self.gpus[node] = self.chance.uniform(800.0, 5_000.0)
            for circuit in ("rack1", "rack2", "grid"):
                if circuit in self.silent:
                    continue
                watts = self.true(circuit) * self.lies.get(circuit, 1.0) + self.chance.gauss(0.0, 10.0)
                self.meters.read(circuit, self.frozen.get(circuit, watts), self.now)
            draws = {
                node: Draw(watts=watts * self.lies.get(node, 1.0), doubt_watts=700.0 * (node in self.lost))
                for node, watts in self.gpus.items()
            }
            self.meters.observe(draws, {}, self.now)

    def reading(self, circuit: str) -> PowerReading:
        found = self.meters.reading(circuit, self.now)
        assert found is not None
        return found

    def bad(self) -> set[str]:
        names = {name for name in ("grid", *NODES) if self.reading(name).quality is not Quality.GOOD}
        return names | {node for node in self.gpus if self.meters.node_reason(node)}


@pytest.fixture
def plant() -> Plant:
    made = Plant()
    made.run(400)
    assert made.bad() == set()
    return made


def test_all_is_good_on_a_long_quiet_day(plant: Plant) -> None:
    for _ in range(40):
        plant.run(30)
        assert plant.bad() == set()


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["c1", "c2", "c3"]), st.integers(1, 40)), min_size=1, max_size=12
    ),
    phases=st.tuples(st.integers(0, 1), st.integers(0, 1)),
)
def test_all_is_good_where_nothing_has_noise_and_every_level_is_read_at_its_own_pace(
    steps: list[tuple[str, int]], phases: tuple[int, int]
) -> None:
    """A load that rests gives the same reading for ever; a PDU makes one every 2 s and is asked every 2 s."""
    made = Plant()
    made.gpus = {node: 1_000.0 for nodes in NODES.values() for node in nodes}
    shown = {rack: made.true(rack) for rack in ("rack1", "rack2")}
    for rack, watts in shown.items():
        made.meters.read(rack, watts, 0.0)
    for node, seconds in [("c1", 0), *steps]:
        if seconds:
            made.gpus[node] = 6_600.0 - made.gpus[node]  # 1 kW or 5.6 kW
        for _ in range(seconds or 60):
            made.now += 1.0
            for rack, phase in zip(shown, phases, strict=True):
                if (made.now + phase) % 2.0 == 0.0:
                    made.meters.read(rack, shown[rack], made.now)
                    shown[rack] = round(made.true(rack), -1)
            made.meters.read("grid", round(made.true("grid"), -1), made.now)
            made.meters.observe({name: Draw(watts=watts) for name, watts in made.gpus.items()}, {}, made.now)
            assert made.bad() == set(), made.meters.rows(made.now)


@pytest.mark.parametrize("factor", [0.6, 1.5, 2.0])
def test_a_pdu_that_is_off_by_a_factor_is_named_and_the_higher_counts(plant: Plant, factor: float) -> None:
    plant.lies["rack1"] = factor
    plant.run(40)
    for _ in range(40):  # and nobody else for a moment
        plant.run(1)
        assert plant.bad() == {"rack1"}
    reading = plant.reading("rack1")
    assert reading.quality is Quality.QUESTIONABLE
    assert reading.watts is not None
    assert reading.watts > 0.93 * plant.true("rack1")
    assert "what it feeds explains" in reading.reason
    plant.lies.clear()
    plant.run(90)
    assert plant.bad() == set()


def test_gpus_that_tell_too_little_are_named_when_rack_and_grid_agree(plant: Plant) -> None:
    plant.lies |= {"c1": 0.4, "c2": 0.4}
    plant.gpus |= {"c1": 4_000.0, "c2": 4_000.0}
    plant.run(60)
    assert plant.bad() == {"c1", "c2"}
    assert "rack1 shows" in plant.meters.node_reason("c1")


def test_a_grid_meter_that_reads_too_low_never_counts_as_room(plant: Plant) -> None:
    plant.lies["grid"] = 0.5
    plant.run(60)
    assert plant.bad() == {"grid"}
    reading = plant.reading("grid")
    assert reading.watts is not None
    assert reading.watts > 0.93 * plant.true("grid")


def test_a_frozen_meter_is_replaced_by_an_estimate_that_is_not_too_low(plant: Plant) -> None:
    plant.frozen["rack1"] = plant.true("rack1")
    plant.run(30)
    plant.gpus |= {"c1": 5_000.0, "c2": 5_000.0}
    plant.run(8)
    reading = plant.reading("rack1")
    assert (reading.quality, reading.estimated) == (Quality.QUESTIONABLE, True)
    assert "stuck for" in reading.reason
    assert reading.watts is not None
    assert plant.true("rack1") < reading.watts < 1.15 * plant.true("rack1")
    assert "rack2" not in plant.bad()


def test_a_silent_meter_is_replaced_only_while_all_it_feeds_reports(plant: Plant) -> None:
    plant.silent.add("rack1")
    plant.run(20)
    assert plant.reading("rack1").estimated
    plant.gpus.pop("c1")
    plant.meters.observe({"c2": Draw(watts=1_000.0)}, {}, plant.now + 1.0)
    reading = plant.meters.reading("rack1", plant.now + 1.0)
    assert reading is not None
    assert (reading.known_watts(), reading.estimated) == (None, False)


def test_without_anything_learned_a_dead_meter_is_unknown() -> None:
    made = Plant()
    made.run(5)
    made.silent.add("rack1")
    made.run(20)
    assert made.reading("rack1").known_watts() is None


def test_rows_show_residuals_and_coverage(plant: Plant) -> None:
    rows = {row.measures: row for row in plant.meters.rows(plant.now)}
    assert set(rows) == {"circuit grid", "circuit rack1", "circuit rack2"}
    rack = rows["circuit rack1"]
    assert rack.coverage_ratio == 1.0
    assert rack.residual_watts is not None
    assert abs(rack.residual_watts) < 300.0
