"""powerd as a real process, with real signals, on simulated GPUs."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from containers.faults.controller import FakeController
from containers.faults.node import PROJECT, NodeBench, wait_until
from containers.plant.nvml_control import FaultKind


def capped(bench: NodeBench, controller: FakeController, slot: int = 0, **more: object) -> float:
    """Have a GPU capped at 400 W; returns what it had before."""
    previous_watts = bench.cap(slot)
    wait_until(lambda: controller.connected, "the connection")
    controller.grant(f"lease-{slot}", bench.uuids[slot], 400.0, **more)
    wait_until(lambda: bench.cap(slot) == 400.0, "the cap")
    wait_until(lambda: bool(controller.said("lease_event", event="verified")), "the read-back")
    return previous_watts


def test_grants_verifies_and_releases(bench: NodeBench, controller: FakeController) -> None:
    bench.start()
    previous_watts = capped(bench, controller)
    wait_until(lambda: len(controller.said("telemetry")) >= 2, "telemetry")
    telemetry = controller.said("telemetry")[-1]
    assert [gpu["uuid"] for gpu in telemetry["gpus"]] == bench.uuids
    assert telemetry["leases"][0]["state"] == "verified"
    controller.send({"type": "release", "lease_ids": ["lease-0"]})
    wait_until(lambda: bool(controller.said("lease_event", event="restored")), "the restoration")
    assert bench.cap(0) == previous_watts


def test_a_lease_that_is_not_renewed_ends_at_its_time(bench: NodeBench, controller: FakeController) -> None:
    bench.start()
    previous_watts = capped(bench, controller, ttl_seconds=1.0)
    seconds = wait_until(lambda: bench.cap(0) == previous_watts, "the end", seconds=3.0)
    assert seconds < 1.6
    wait_until(lambda: bool(controller.said("lease_event", event="expired")), "the news of it")


def test_drift_is_repaired_and_counted(bench: NodeBench, controller: FakeController) -> None:
    bench.start()
    capped(bench, controller, ttl_seconds=60.0)
    bench.gpus.write_foreign_limit(0, 600.0)
    wait_until(lambda: bench.cap(0) == 400.0, "the repair", seconds=2.5)
    wait_until(lambda: bool(controller.said("lease_event", event="repaired")), "the news")
    wait_until(lambda: controller.said("telemetry")[-1]["drift_count"] == 1, "the count")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_end_of_powerd_restores_within_two_seconds(
    bench: NodeBench, controller: FakeController, number: signal.Signals
) -> None:
    powerd = bench.start()
    bench.gpus.write_foreign_limit(1, 612.5)
    before = bench.caps()
    capped(bench, controller, 0, ttl_seconds=60.0)
    capped(bench, controller, 1, ttl_seconds=60.0)
    wait_until(lambda: bench.cap(1) == 400.0, "the second cap")
    os.kill(powerd.pid, number)
    wait_until(lambda: bench.caps() == before, "everything back", seconds=2.0)
    wait_until(lambda: '"uuid"' not in (bench.state / "saved_settings.json").read_text(), "no record left")


def test_the_next_start_restores_when_both_were_killed(bench: NodeBench, controller: FakeController) -> None:
    powerd = bench.start()
    previous_watts = capped(bench, controller, ttl_seconds=60.0)
    watchdog = bench.watchdog(powerd)
    assert watchdog is not None
    os.kill(powerd.pid, signal.SIGSTOP)
    os.kill(watchdog, signal.SIGKILL)
    os.kill(powerd.pid, signal.SIGKILL)
    powerd.wait()
    assert bench.cap(0) == 400.0
    bench.start()
    wait_until(lambda: bench.cap(0) == previous_watts, "the restoration")


def test_a_dead_watchdog_is_replaced(bench: NodeBench) -> None:
    powerd = bench.start()
    first = bench.watchdog(powerd)
    assert first is not None
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: bench.watchdog(powerd) not in (None, first), "another watchdog")


def test_a_new_powerd_takes_over_from_a_watchdog_that_cannot_finish(
    bench: NodeBench, controller: FakeController
) -> None:
    powerd = bench.start()
    previous_watts = capped(bench, controller, ttl_seconds=60.0)
    watchdog = bench.watchdog(powerd)
    bench.gpus.set_fault(0, FaultKind.LOST)
    powerd.kill()
    powerd.wait()
    bench.start(wait=False)
    wait_until(lambda: bench.log_text().count("serves node") == 2, "the new powerd")
    wait_until(lambda: watchdog is None or not _runs(watchdog), "the old watchdog's end")
    bench.gpus.clear_fault(0, FaultKind.LOST)
    wait_until(lambda: bench.cap(0) == previous_watts, "the restoration", seconds=15.0)


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_second_powerd_is_refused(bench: NodeBench, monkeypatch: pytest.MonkeyPatch) -> None:
    bench.start()
    second = bench.start(wait=False)
    assert second.wait(20) == 1
    assert "held by another powerd" in bench.log_text()


def test_safety_caps_rest_at_the_safe_value_without_a_controller(
    bench: NodeBench, controller: FakeController
) -> None:
    bench.settings["safe_cap_watts"] = 350.0
    powerd = bench.start()
    previous_watts = capped(bench, controller, kind="safety", ttl_seconds=1.0)
    controller.drop()
    wait_until(lambda: bench.cap(0) == 350.0, "the static cap")
    powerd.kill()
    powerd.wait()
    bench.start()
    wait_until(lambda: controller.connected, "the connection")
    wait_until(lambda: any(lease["state"] == "safe" for lease in bench.status()["leases"]), "the rest")
    assert bench.cap(0) == 350.0
    controller.send({"type": "release", "lease_ids": ["lease-0"]})
    wait_until(lambda: bench.cap(0) == previous_watts, "the restoration")


def test_one_failing_gpu_stops_no_other(bench: NodeBench, controller: FakeController) -> None:
    bench.start()
    capped(bench, controller, 0, ttl_seconds=2.0)
    bench.gpus.set_fault(1, FaultKind.SLOW_CALL, value=3.0, duration_seconds=5.0)
    bench.gpus.set_fault(2, FaultKind.LOST, duration_seconds=6.0)
    capped(bench, controller, 3, ttl_seconds=2.0)
    assert bench.status()["ok"]
    default_watts = bench.cap(1)
    wait_until(lambda: bench.cap(0) == bench.cap(3) == default_watts, "the end of both", seconds=3.0)
    wait_until(lambda: "lost" in _error(bench, 2).lower(), "the lost GPU's error")
    wait_until(lambda: _error(bench, 2) == "", "its return", seconds=15.0)


def _error(bench: NodeBench, slot: int) -> str:
    return str(bench.status()["gpus"][slot]["error"])


def test_a_refused_write_is_told_and_leaves_nothing(bench: NodeBench, controller: FakeController) -> None:
    bench.start()
    before = bench.caps()
    wait_until(lambda: controller.connected, "the connection")
    bench.gpus.set_fault(0, FaultKind.SET_ERROR, value=4)
    bench.gpus.set_fault(1, FaultKind.SET_IGNORED)
    controller.grant("lease-0", bench.uuids[0], 400.0, ttl_seconds=2.0)
    controller.grant("lease-1", bench.uuids[1], 400.0, ttl_seconds=2.0)
    wait_until(lambda: len(controller.said("lease_event", event="refused")) >= 2, "both refusals")
    wait_until(lambda: len(controller.said("lease_event", event="restored")) == 2, "both ends")
    assert bench.caps() == before


def test_a_controller_of_another_authority_is_not_obeyed(
    bench: NodeBench, controller: FakeController
) -> None:
    controller.foreign = True
    bench.start()
    wait_until(lambda: "certificate verify failed" in bench.status()["controller"], "the refusal")
    assert controller.connections == 0
    controller.foreign = False
    wait_until(lambda: bench.status()["controller"] == "connected", "the true one")


def test_a_node_asks_for_a_new_certificate_when_its_own_is_refused(
    bench: NodeBench, controller: FakeController
) -> None:
    powerd = bench.start()
    wait_until(lambda: controller.connected, "the connection")
    key = (bench.state / "front" / "node.key").read_bytes()
    (mark,) = controller.pins.values()
    powerd.terminate()
    powerd.wait()
    (bench.state / "front" / "node.pem").write_text("-----BEGIN CERTIFICATE-----\nspoiled\n")
    bench.start()
    wait_until(lambda: controller.connections == 2, "the connection")
    assert (bench.state / "front" / "node.key").read_bytes() == key
    assert list(controller.pins.values()) == [mark]
    assert (bench.state / "front" / "node.key").stat().st_mode & 0o077 == 0


def test_a_node_with_another_key_is_refused_until_the_pin_is_dropped(
    bench: NodeBench, controller: FakeController
) -> None:
    powerd = bench.start()
    wait_until(lambda: controller.connected, "the connection")
    powerd.terminate()
    powerd.wait()
    for name in ("node.key", "node.pem"):
        (bench.state / "front" / name).unlink()
    bench.start()
    wait_until(lambda: bench.status()["controller"].startswith("disconnected: "), "the refusal")
    assert controller.connections == 1


@pytest.mark.parametrize(
    "line",
    [b'{"type":"grant","leases":[]}\n', b"\x17\x03\x03\x00\x20" + b"x" * 32, b"hello\n"],
)
def test_what_is_forged_below_tls_ends_the_connection(
    bench: NodeBench, controller: FakeController, line: bytes
) -> None:
    bench.start()
    wait_until(lambda: controller.connected, "the connection")
    controller.send_below_tls(line)
    wait_until(lambda: controller.connections == 2, "another connection")
    assert bench.status()["ok"]


@pytest.mark.parametrize("line", [b"hello\n", b"[1]\n", b"\xff\n", b"x" * (2 << 20)])
def test_a_malformed_line_ends_the_connection(
    bench: NodeBench, controller: FakeController, line: bytes
) -> None:
    bench.start()
    wait_until(lambda: controller.connected, "the connection")
    with suppress(OSError):  # powerd may hang up in the middle of a long one
        controller.send_raw(line)
    wait_until(lambda: controller.connections == 2, "another connection")
    assert bench.status()["ok"]


def test_malformed_grants_do_no_harm(bench: NodeBench, controller: FakeController) -> None:
    bench.start()
    before = bench.caps()
    wait_until(lambda: controller.connected, "the connection")
    controller.grant("a", "GPU-unknown", 400.0)
    controller.grant("b", bench.uuids[0], -5.0)
    controller.grant("c", bench.uuids[0], float("nan"))
    controller.grant("d", bench.uuids[0], 400.0, kind="other")
    controller.grant("e", bench.uuids[0], 400.0, ttl_seconds=1e9)
    controller.send({"type": "grant", "leases": 7})
    controller.send({"type": "nonsense"})
    controller.send({"type": "yield", "seconds": "an hour"})
    controller.send({"type": "sampling", "sample_seconds": None})
    capped(bench, controller, 1, ttl_seconds=60.0)
    assert bench.cap(0) == before[0]
    assert controller.connections == 1


def test_a_controller_that_returns_is_told_everything(bench: NodeBench, controller: FakeController) -> None:
    bench.start()
    wait_until(lambda: controller.connected, "the connection")
    capped(bench, controller, ttl_seconds=1.0)
    controller.drop()
    wait_until(lambda: controller.connections == 2, "the reconnection")
    wait_until(lambda: bool(controller.said("lease_event", event="restored")), "the end of the lease")


def _powerd(bench: NodeBench, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "slurm_power.cli.powerd", *arguments]
    return subprocess.run(
        command, env=bench.environment, cwd=PROJECT, capture_output=True, text=True, timeout=60, check=False
    )


def test_restore_on_demand_ends_static_caps_too(bench: NodeBench, controller: FakeController) -> None:
    bench.settings["safe_cap_watts"] = 350.0
    powerd = bench.start()
    previous_watts = capped(bench, controller, kind="safety", ttl_seconds=60.0)
    powerd.terminate()
    assert powerd.wait(15) == 0
    assert bench.cap(0) == 350.0
    done = _powerd(bench, "--config", str(bench.folder / "node.toml"), "--restore")
    assert (done.returncode, bench.cap(0)) == (0, previous_watts), done.stderr


def test_a_bad_configuration_is_told_whole_and_ends_with_2(bench: NodeBench) -> None:
    toml = bench.folder / "bad.toml"
    toml.write_text('contoller = "x"\nsample_seconds = 1000\n')
    done = _powerd(bench, "--config", str(toml), "--check")
    assert done.returncode == 2
    assert "contoller" in done.stderr
    toml.write_text("sample_seconds = 2\n")
    assert _powerd(bench, "--config", str(toml), "--check").returncode == 0


def test_an_idle_node_lets_go_of_the_driver_so_that_a_gpu_can_be_reset(
    bench: NodeBench, controller: FakeController
) -> None:
    bench.settings["rest_after_seconds"] = 0.5
    bench.start()
    wait_until(lambda: not bench.gpus.has_clients(), "nobody in the driver")
    before = len(controller.said("telemetry"))
    wait_until(lambda: len(controller.said("telemetry")) >= before + 2, "reports at rest", seconds=4.0)
    assert not bench.gpus.has_clients()
    capped(bench, controller, ttl_seconds=60.0)
    assert bench.gpus.has_clients()
    wait_until(
        lambda: bench.status()["gpus"][0]["requested_cap_watts"] == 400.0, "samples again", seconds=3.0
    )
    controller.send({"type": "release", "lease_ids": ["lease-0"]})
    wait_until(lambda: not bench.gpus.has_clients(), "nobody in the driver again", seconds=12.0)


def test_samples_come_faster_when_the_controller_asks_and_for_so_long_only(
    bench: NodeBench, controller: FakeController
) -> None:
    bench.start()
    wait_until(lambda: controller.connected, "the connection")
    controller.send({"type": "sampling", "sample_seconds": 0.001, "for_seconds": 2})
    controller.send({"type": "sampling", "sample_seconds": 0.1, "for_seconds": 2})
    before = len(controller.said("telemetry"))
    time.sleep(3.0)
    assert 15 <= len(controller.said("telemetry")) - before <= 26
    assert "sample_seconds" in bench.log_text()
    before = len(controller.said("telemetry"))
    time.sleep(2.0)
    assert len(controller.said("telemetry")) - before <= 3
