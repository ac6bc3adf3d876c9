"""The watchdog and its work, called in this process, on simulated GPUs."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from containers.faults.node import PROJECT, NodeBench, wait_until
from containers.plant.nvml_control import FaultKind
from slurm_power.model.site import LimitKind
from slurm_power.node import watchdog
from slurm_power.node.guardian import lock_node
from slurm_power.node.leftovers import restore
from slurm_power.node.saved_settings import SavedSetting, SavedSettings, this_boot
from tests.fakes import FakeGpus


@pytest.fixture
def left(bench: NodeBench, monkeypatch: pytest.MonkeyPatch) -> NodeBench:
    """A node on which a dead powerd has left two caps, one of each kind."""
    monkeypatch.setenv("PLANT_NVML_STATE", bench.environment["PLANT_NVML_STATE"])
    bench.state.mkdir()
    saved = SavedSettings(bench.state)
    for slot, kind in enumerate(LimitKind):
        bench.gpus.write_foreign_limit(slot, 300.0)
        saved.put(record(bench.uuids[slot], kind))
    return bench


def record(uuid: str, kind: LimitKind, boot_id: str | None = None) -> SavedSetting:
    return SavedSetting(
        uuid=uuid,
        previous=612.5,
        bound=300.0,
        kind=kind,
        lease_id="L",
        boot_id=this_boot() if boot_id is None else boot_id,
    )


def records(bench: NodeBench) -> set[str]:
    return {key.uuid for key in SavedSettings(bench.state).load()}


def test_each_kind_goes_where_it_has_to(left: NodeBench) -> None:
    assert restore(str(left.state), 250.0, go_on=lambda: True)
    assert left.caps()[:2] == [250.0, 612.5]
    assert records(left) == {left.uuids[0]}
    assert list(LimitKind) == [LimitKind.SAFETY, LimitKind.ECONOMIC]


def test_without_a_static_cap_both_go_to_what_was_before(left: NodeBench) -> None:
    assert restore(str(left.state), None, go_on=lambda: True)
    assert left.caps()[:2] == [612.5, 612.5]
    assert records(left) == set()


def test_entirely_ends_static_caps_too(left: NodeBench) -> None:
    assert restore(str(left.state), 250.0, go_on=lambda: True, entirely=True)
    assert left.caps()[:2] == [612.5, 612.5]
    assert records(left) == set()


def test_told_to_stop_it_keeps_the_record(left: NodeBench) -> None:
    left.gpus.set_fault(1, FaultKind.LOST)
    rounds = iter(range(6))
    assert not restore(str(left.state), None, go_on=lambda: next(rounds, None) is not None)
    assert left.cap(0) == 612.5
    assert records(left) == {left.uuids[1]}


def test_a_gpu_that_hangs_does_not_hold_up_the_others(left: NodeBench) -> None:
    left.gpus.set_fault(0, FaultKind.SLOW_CALL, value=1.5, duration_seconds=2.0)
    child = os.fork()
    if child == 0:
        os._exit(not restore(str(left.state), None, go_on=lambda: True))
    wait_until(lambda: left.cap(1) == 612.5, "the other", seconds=1.4)
    wait_until(lambda: left.cap(0) == 612.5, "the slow one", seconds=15.0)
    assert os.waitpid(child, 0)[1] == 0


def test_a_file_that_another_has_changed_is_read_again(left: NodeBench) -> None:
    left.gpus.set_fault(1, FaultKind.LOST)
    changed: list[bool] = []

    def go_on() -> bool:
        if not changed:
            changed.append(True)
            SavedSettings(left.state).file.write_text("")
        return True

    assert restore(str(left.state), None, go_on=go_on)
    assert records(left) == set()


def test_a_driver_that_is_gone_is_waited_for(tmp_path: Path) -> None:
    class NoDriver(FakeGpus):
        tries = 0

        def open(self) -> None:
            NoDriver.tries += 1
            if NoDriver.tries < 3:
                raise OSError("no driver yet")
            super().open()

    gpus = NoDriver("a")
    gpus.gpus["a"].requested_watts = 300.0
    SavedSettings(tmp_path).put(record("a", LimitKind.ECONOMIC))
    assert restore(str(tmp_path), None, go_on=lambda: True, gpus=gpus)
    assert gpus.gpus["a"].requested_watts == 612.5
    SavedSettings(tmp_path).put(record("a", LimitKind.ECONOMIC))
    NoDriver.tries = 0
    assert not restore(str(tmp_path), None, go_on=lambda: False, gpus=gpus)


@pytest.mark.parametrize(("shown_watts", "after_watts"), [(700.0, 700.0), (300.0, 612.5)])
def test_after_a_reboot_only_our_own_cap_is_undone(
    tmp_path: Path, shown_watts: float, after_watts: float
) -> None:
    gpus = FakeGpus("a")
    gpus.gpus["a"].requested_watts = shown_watts
    SavedSettings(tmp_path).put(record("a", LimitKind.ECONOMIC, boot_id="another"))
    assert restore(str(tmp_path), None, go_on=lambda: True, gpus=gpus)
    assert gpus.gpus["a"].requested_watts == after_watts
    assert SavedSettings(tmp_path).load() == {}


@pytest.fixture
def stdin() -> Iterator[int]:
    """Our standard input as a pipe; yields the end that powerd would hold."""
    read_end, write_end = os.pipe()
    before = os.dup(0)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
    os.dup2(read_end, 0)
    os.close(read_end)
    yield write_end
    os.dup2(before, 0)
    os.close(before)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def test_it_waits_for_the_end_of_powerd_and_of_its_lock(left: NodeBench, stdin: int) -> None:
    lock = lock_node(left.state)
    seen = []

    def powerd() -> None:
        os.write(stdin, b"alive")
        time.sleep(0.1)
        seen.append(left.caps()[:2])
        os.close(stdin)
        time.sleep(0.1)
        seen.append(left.caps()[:2])
        os.close(lock)

    thread = threading.Thread(target=powerd)
    thread.start()
    assert watchdog.main([str(left.state), "250.0", "", ""]) == 0
    thread.join()
    assert seen == [[300.0, 300.0]] * 2
    assert left.caps()[:2] == [250.0, 612.5]


def test_a_silent_parent_is_killed(tmp_path: Path) -> None:
    """In processes of their own: a parent that forks our watchdog's wait, speaks twice and falls silent."""
    program = (
        "import os, sys, time\n"
        "from slurm_power.node import watchdog\n"
        "watchdog.SILENCE_SECONDS = 0.4\n"
        "read_end, write_end = os.pipe()\n"
        "parent = os.getpid()\n"
        "if os.fork() == 0:\n"
        "    os.close(write_end); os.dup2(read_end, 0)\n"
        "    watchdog.outlive(parent)\n"
        f"    open({str(tmp_path / 'gone')!r}, 'w').close(); os._exit(0)\n"
        "os.close(read_end)\n"
        "for _ in range(3): os.write(write_end, b'.'); time.sleep(0.2)\n"
        "time.sleep(30)\n"
    )
    started = time.monotonic()
    parent = subprocess.run([sys.executable, "-c", program], cwd=PROJECT, check=False, timeout=20)
    assert parent.returncode == -signal.SIGKILL
    assert 0.75 < time.monotonic() - started < 10.0
    wait_until((tmp_path / "gone").exists, "the end of the wait")


def test_it_leaves_everything_to_a_new_powerd(
    left: NodeBench, stdin: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watchdog, "SUCCESSOR_SECONDS", 0.1)
    lock = lock_node(left.state)
    os.close(stdin)
    assert watchdog.main([str(left.state), "", "", ""]) == 0
    assert left.caps()[:2] == [300.0, 300.0]
    os.close(lock)


def test_a_lock_is_taken_offered_and_missed(tmp_path: Path) -> None:
    first, second = watchdog.open_lock(str(tmp_path)), watchdog.open_lock(str(tmp_path))
    assert watchdog.take_lock(first, 0.0)
    assert not watchdog.take_lock(second, 0.05)
    assert watchdog.offer_lock(first)
    taker = threading.Thread(target=watchdog.take_lock, args=(second, 5.0))
    taker.start()
    assert not watchdog.offer_lock(first)
    taker.join()
    os.close(first)
    os.close(second)
