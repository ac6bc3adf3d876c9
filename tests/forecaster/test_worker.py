"""The forecast worker: learns from what was saved, stored and told, and never falls over any of it."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slurm_power.forecaster.worker import DIRECTORY, Hello
from slurm_power.model.forecast import Reach
from tests.forecaster.bench import BEGAN, STEP, InProcess, OwnProcess, hello, load, step, stored


def test_it_speaks_of_the_next_hour_after_the_first_step(tmp_path: Path) -> None:
    bench = InProcess(tmp_path)
    bench.steps(BEGAN + STEP, 1)
    for circuit, share in (("grid", 1.0), ("rack1", 0.4)):
        found = bench.last(circuit, Reach.NEAR)
        assert found.issued_seconds == BEGAN + STEP and len(found.p50_watts) == 60
        assert found.p50_watts[0] == pytest.approx(share * load(BEGAN + 30.0), rel=1e-3)
        assert all(low <= high for low, high in zip(found.p10_watts, found.p90_watts, strict=True))


def test_it_speaks_of_the_next_days_after_the_first_quarter(tmp_path: Path) -> None:
    bench = InProcess(tmp_path)
    bench.steps(BEGAN + STEP, 14)
    assert not any(message.get("reach") == "far" for message in bench.said)
    bench.steps(BEGAN + 15 * STEP, 1)
    found = bench.last("grid", Reach.FAR)
    assert found.issued_seconds == BEGAN + 900.0 and len(found.p50_watts) == 192
    assert "days of history" in found.reason


def test_it_learns_from_what_was_stored_before_it_was_there(tmp_path: Path) -> None:
    stored(tmp_path, 27.0, every=300.0)
    bench = InProcess(tmp_path)
    bench.steps(BEGAN + STEP, 1)
    found = bench.last("grid", Reach.FAR)
    assert found.issued_seconds == BEGAN
    assert found.history_days == pytest.approx(27.0 / 24.0, abs=0.05)
    truth = np.array([load(BEGAN + 900.0 * (quarter + 0.5)) for quarter in range(96)])
    flat = np.abs(truth - load(BEGAN)).mean()
    assert np.abs(np.array(found.p50_watts[:96]) - truth).mean() < 0.8 * flat
    assert bench.words() == []


def test_who_was_saved_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    stored(tmp_path, 2.0)
    whole = InProcess(tmp_path)
    whole.steps(BEGAN + STEP, 40)
    whole.worker.save()
    again = InProcess(tmp_path)
    whole.steps(BEGAN + 41 * STEP, 10)
    again.steps(BEGAN + 41 * STEP, 10)
    assert again.words() == []
    for reach in Reach:
        before, after = whole.last("grid", reach), again.last("grid", reach)
        assert after.issued_seconds == before.issued_seconds
        np.testing.assert_allclose(after.p50_watts, before.p50_watts, rtol=1e-3)
        assert after.history_days == pytest.approx(before.history_days, abs=0.01)


def test_what_was_stored_while_it_was_away_is_learned(tmp_path: Path) -> None:
    first = InProcess(tmp_path)
    first.steps(BEGAN - 3 * 3600.0 + STEP, 60)
    first.worker.save()
    stored(tmp_path, 3.0)
    second = InProcess(tmp_path)
    second.steps(BEGAN + STEP, 1)
    assert second.last("grid", Reach.FAR).issued_seconds == BEGAN
    assert second.last("grid", Reach.FAR).history_days == pytest.approx(3.0 / 24.0, abs=0.02)


@pytest.mark.parametrize("damage", [b"", b"no zip at all", None])
def test_a_damaged_state_is_named_and_learned_anew(tmp_path: Path, damage: bytes | None) -> None:
    first = InProcess(tmp_path)
    first.steps(BEGAN + STEP, 5)
    first.worker.save()
    file = tmp_path / DIRECTORY / "grid.npz"
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] if damage is None else damage)
    second = InProcess(tmp_path)
    second.steps(BEGAN + 6 * STEP, 1)
    assert second.last("grid", Reach.NEAR).p50_watts
    (words,) = second.words()
    assert words.startswith("circuit:grid: its saved state is not used: grid.npz")


def test_a_state_with_other_steps_is_not_used(tmp_path: Path) -> None:
    first = InProcess(tmp_path)
    first.steps(BEGAN + STEP, 5)
    first.worker.save()
    second = InProcess(tmp_path, near_step_seconds=30.0, near_steps=60)
    second.worker.take(step(BEGAN + 6 * STEP))
    while not second.worker.idle:
        second.worker.learn_next()
    assert len(second.words()) == 2 and "other steps" in second.words()[0]


def test_a_planned_start_is_seen_on_its_circuits_before_it_comes(tmp_path: Path) -> None:
    bench = InProcess(tmp_path)
    bench.steps(BEGAN + STEP, 30)
    planned = [["bob", 8, 7200.0, 600.0, {"grid": 6_400.0, "rack1": 6_400.0}]]
    without = bench.last("grid", Reach.NEAR).p50_watts
    bench.steps(BEGAN + 31 * STEP, 1, {"planned": planned})
    grid, rack = (np.array(bench.last(name, Reach.NEAR).p50_watts) for name in ("grid", "rack1"))
    assert grid[12] - grid[7] == pytest.approx(6_400.0, abs=600.0)
    assert rack[12] - rack[7] == pytest.approx(6_400.0, abs=600.0)
    assert abs(without[12] - without[7]) < 600.0


def test_run_times_are_learned_and_kept(tmp_path: Path) -> None:
    bench = InProcess(tmp_path)
    bench.steps(BEGAN + STEP, 1, {"ended": [["bob", 8, 7200.0, 1800.0]]})
    bench.worker.save()
    again = InProcess(tmp_path)
    assert again.worker.run_times.state() == bench.worker.run_times.state()
    assert again.worker.run_times.state()["users"] == {"bob": [(1800.0, 7200.0, 8.0)]}
    (tmp_path / DIRECTORY / "run_times.json").write_text('{"users": 3}')
    assert InProcess(tmp_path).words()[0].startswith("run times: ")


def test_gaps_and_steps_that_come_twice_or_late_do_no_harm(tmp_path: Path) -> None:
    bench = InProcess(tmp_path)
    bench.steps(BEGAN + STEP, 10)
    bench.steps(BEGAN + 5 * STEP, 3)
    bench.worker.take(step(BEGAN + 11 * STEP, grid=None, rack1=None))
    bench.steps(BEGAN + 40 * STEP, 2)
    bench.steps(BEGAN + 400 * 86_400.0, 2)
    bench.steps(BEGAN, 2)
    for message in bench.said:
        if message["type"] != "forecast":
            continue
        assert np.isfinite(message["p50_watts"] + message["p10_watts"] + message["p90_watts"]).all()


def test_whole_paths_of_past_errors_are_told_where_a_battery_needs_them(tmp_path: Path) -> None:
    stored(tmp_path, 80.0, every=450.0)
    bench = InProcess(tmp_path, far_steps=24)
    bench.steps(BEGAN + STEP, 1)
    (told,) = [message for message in bench.said if message["type"] == "paths"]
    paths = np.array(told["watts"])
    assert told["circuit"] == "grid" and told["issued_seconds"] == BEGAN
    assert paths.shape[1] == 24 and len(paths) > 10 and np.isfinite(paths).all()
    assert np.abs(paths).mean() < 5_000.0


def test_a_circuit_that_was_never_measured_is_not_spoken_of(tmp_path: Path) -> None:
    bench = InProcess(tmp_path)
    for at in range(3):
        bench.worker.take(step(BEGAN + at * STEP, rack1=None))
        while not bench.worker.idle:
            bench.worker.learn_next()
        bench.worker.speak()
    assert {message["circuit"] for message in bench.said} == {"grid"}


def test_what_is_stored_otherwise_than_it_is_told_is_noticed(tmp_path: Path) -> None:
    """Training-serving skew: both come from one function, so a difference is a fault somewhere between."""
    for factor, noticed in ((1.0, False), (1.04, True)):
        folder = tmp_path / str(factor)
        folder.mkdir()
        bench = InProcess(folder, circuits=("grid",))
        bench.steps(BEGAN - 3 * 3600.0, 1)
        bench.worker.check_skew()
        stored(folder, 1.5, factor=factor)
        bench.steps(BEGAN - 1.5 * 3600.0 + STEP, 90)
        bench.worker.check_skew()
        assert any("what is stored differs" in words for words in bench.words()) is noticed


@pytest.mark.parametrize(
    "message",
    [
        {"type": "stop"},
        {"type": "step"},
        {"type": "step", "end_seconds": "now", "loads": {}, "jobs": {}},
        {**step(BEGAN), "jobs": {"running": [["bob"]], "planned": [], "ended": []}},
        {**step(BEGAN), "jobs": {"running": [], "planned": [], "ended": [["bob", 1, 0.0, 1.0, 2.0]]}},
    ],
)
def test_nonsense_is_refused(tmp_path: Path, message: Any) -> None:
    with pytest.raises(ValueError, match=r"no|message|values|limit|float"):
        InProcess(tmp_path).worker.take(message)


@pytest.mark.parametrize("key", ["circuits", "near_step_seconds", "type"])
def test_a_greeting_has_to_be_whole(tmp_path: Path, key: str) -> None:
    greeting = hello(tmp_path)
    del greeting[key]
    with pytest.raises(ValueError, match="hello"):
        Hello.from_message(greeting)


def test_as_a_process_it_speaks_saves_at_the_end_and_never_loads_statsmodels(tmp_path: Path) -> None:
    worker = OwnProcess(hello(tmp_path), step(BEGAN + STEP))
    assert worker.hear()["type"] == "forecast"
    loaded = Path(f"/proc/{worker.process.pid}/maps").read_text()
    assert "statsmodels" not in loaded and "numpy" in loaded
    assert worker.end() == 0
    assert (tmp_path / DIRECTORY / "grid.npz").is_file()


def test_as_a_process_it_speaks_as_soon_as_it_has_read(tmp_path: Path) -> None:
    """Found by measuring: it waited a second for more before it said anything."""
    worker = OwnProcess(hello(tmp_path), step(BEGAN + STEP))
    for _ in range(2):
        worker.hear()
    began = time.monotonic()
    for at in range(2, 7):
        worker.tell(step(BEGAN + at * STEP))
        assert worker.hear()["issued_seconds"] == worker.hear()["issued_seconds"] == BEGAN + at * STEP
    assert time.monotonic() - began < 4.0, "five steps of which each would wait a second"
    worker.end()


def test_as_a_process_it_ends_on_nonsense(tmp_path: Path) -> None:
    worker = OwnProcess(hello(tmp_path), {"type": "what"})
    assert worker.process.wait(20) == 1
    worker.end()
