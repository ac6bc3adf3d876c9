"""What a loop notices of the advice file, of signals and of everything that can be wrong with them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.advice import Advice
from slurm_power.advice.loop import largest_divisor
from slurm_power.advice.words import MAX_FILE_BYTES
from tests.advice.files import advise

ROOT = Path(__file__).parents[2]
VARIABLES = ("SLURM_POWER_ADVICE_FILE", "SLURM_POWER_SOCKET", "SLURM_JOB_ID", "SLURM_PROCID", "WORLD_SIZE")


@pytest.fixture(autouse=True)
def outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """No job around."""
    for name in (*VARIABLES, "SLURM_STEP_NUM_TASKS", "RANK"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "advice.json"


def looking(file: Path, **more: Any) -> Advice:
    """An Advice that looks at its file at each step."""
    return Advice(**{"global_batch": 96, "max_micro": 48, "file": file, "look_seconds": 0.0, **more})


def in_thread(act: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=act)
    thread.start()
    return thread


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_outside_a_job_nothing_happens() -> None:
    with Advice(global_batch=96, max_micro=40) as advice:
        assert (advice.micro, advice.accumulation) == (32, 3)
        assert [advice.step() for _ in range(100)] == [False] * 100
        advice.saved(100)
    assert (advice.reason, advice.stopping, advice.paused_seconds) == ("", False, 0.0)


@given(st.integers(1, 3000), st.integers(1, 64), st.integers(1, 4000), st.integers(1, 4000))
def test_the_global_batch_is_kept_whatever_is_advised(
    share: int, ranks: int, max_micro: int, advised: int
) -> None:
    advice = Advice(global_batch=share * ranks, max_micro=max_micro, world_size=ranks)
    advice._set_micro(advised)
    assert advice.micro * advice.accumulation * ranks == share * ranks
    assert 1 <= advice.micro <= min(max_micro, share)
    assert advice.micro <= advised
    better = range(advice.micro + 1, min(advised, max_micro, share) + 1)
    assert not [number for number in better if share % number == 0]


def test_the_micro_batch_follows_the_file_and_comes_back(file: Path) -> None:
    advise(file, micro_batch=16)
    with looking(file) as advice:
        assert (advice.micro, advice.accumulation) == (16, 6), "from the first step on"
        advise(file, micro_batch=13)
        assert not advice.step()
        assert advice.micro == 12
        file.unlink()
        advice.step()
        assert advice.micro == 48
        advise(file, micro_batch=16, seconds=0.05)
        advice.step()
        assert advice.micro == 16
        until(lambda: (advice.step(), advice.micro)[1] == 48)


BROKEN: list[bytes] = [
    b"",
    b"{",
    b"[]",
    b"null",
    b"7",
    b"\xff\xfe",
    b"[" * 60_000,
    b" " * (MAX_FILE_BYTES + 1),
    b'{"action":"pause"}',
    b'{"action":"pause","until_boottime":"soon"}',
    b'{"action":"pause","until_boottime":1e400}',
    b'{"action":"pause","until_boottime":NaN}',
    b'{"action":"pause","until_boottime":true}',
    b'{"action":"pause","until_boottime":1e12}',
    b'{"action":"pause","until_boottime":-5}',
]


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_file_says_nothing(file: Path, text: bytes) -> None:
    file.write_bytes(text)
    with looking(file) as advice:
        assert (advice.step(), advice.micro) == (False, 48)


@pytest.mark.parametrize(
    "words",
    [
        *({"action": "explode"}, {"action": ["pause"]}, {"micro_batch": 0}, {"micro_batch": -4}),
        *({"micro_batch": 16.0}, {"micro_batch": True}, {"micro_batch": "16"}, {"micro_batch": 1 << 40}),
    ],
)
def test_a_wrong_word_takes_the_whole_file_with_it(file: Path, words: dict[str, Any]) -> None:
    advise(file, **{"action": "checkpoint", "micro_batch": 16, **words})
    with looking(file) as advice:
        assert (advice.step(), advice.micro) == (False, 48)


def test_what_is_no_file_holds_nobody(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for path in (tmp_path, tmp_path / "pipe", tmp_path / "loop", Path("/dev/zero"), Path("a\0b")):
        with looking(path) as advice:
            assert not advice.step()


def test_a_pause_ends_when_the_word_does(file: Path) -> None:
    with looking(file) as advice:
        advise(file, action="pause", reason="a peak")

        def lifted() -> None:
            until(lambda: "peak" in advice.reason)
            advise(file, action="run")

        thread = in_thread(lifted)
        start = time.monotonic()
        assert not advice.step()
        thread.join()
        assert 0.0 < advice.paused_seconds <= time.monotonic() - start
        advise(file, action="pause", seconds=0.3)  # a powerd that is dead lifts no pause: its lease does
        assert not advice.step()
        assert advice.paused_seconds > 0.2


def test_who_is_paused_still_saves_and_ends_when_asked(file: Path) -> None:
    with looking(file) as advice:
        advise(file, action="pause")
        main = threading.get_ident()

        def signalled() -> None:
            until(lambda: advice._words.action == "pause")
            signal.pthread_kill(main, signal.SIGUSR2)

        thread = in_thread(signalled)
        assert advice.step()
        thread.join()
    with looking(file) as advice:

        def asked() -> None:
            until(lambda: advice._steps == 1)
            advise(file, action="checkpoint")

        thread = in_thread(asked)
        assert advice.step()
        thread.join()


def test_asked_to_stop_it_stays_so(file: Path) -> None:
    with looking(file) as advice:
        advise(file, action="checkpoint", reason="another tier")
        assert advice.step()
        assert (advice.stopping, advice.reason) == (True, "another tier")
        file.unlink()
        assert advice.step()
        with pytest.raises(SystemExit) as ended:
            advice.requeue()
        assert ended.value.code == 85


def test_a_loop_that_cannot_save_itself_is_not_asked_to(file: Path) -> None:
    advise(file, action="checkpoint")
    with looking(file, checkpoints=False) as advice:
        os.kill(os.getpid(), signal.SIGUSR2)
        assert not advice.step()


@pytest.fixture
def heard() -> Iterator[list[int]]:
    """What a handler that was there before hears."""
    numbers: list[int] = []

    def handler(number: int, _frame: FrameType | None) -> None:
        numbers.append(number)

    before = [(number, signal.signal(number, handler)) for number in (signal.SIGUSR1, signal.SIGUSR2)]
    yield numbers
    for number, previous in before:
        signal.signal(number, previous)


def test_a_signal_only_sets_a_flag_and_goes_on_to_who_was_there(heard: list[int]) -> None:
    previous = signal.getsignal(signal.SIGUSR2)
    with Advice() as advice:
        os.kill(os.getpid(), signal.SIGUSR2)
        assert (heard, advice.stopping) == ([signal.SIGUSR2], False)
        assert (advice.step(), advice.reason) == (True, "stop signal")
    assert signal.getsignal(signal.SIGUSR2) is previous
    with Advice(stop_signal=signal.SIGUSR1) as advice:
        os.kill(os.getpid(), signal.SIGUSR2)
        assert not advice.step()
        os.kill(os.getpid(), signal.SIGUSR1)
        assert advice.step()
    with Advice(stop_signal=None) as advice:
        os.kill(os.getpid(), signal.SIGUSR2)
        assert not advice.step()


def test_a_handler_that_was_set_later_stays(heard: list[int]) -> None:
    with Advice():
        signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    assert signal.getsignal(signal.SIGUSR2) is signal.SIG_IGN


def test_in_another_thread_the_file_works_and_signals_are_left_alone(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    before = signal.getsignal(signal.SIGUSR2)
    found: list[object] = []

    def loop() -> None:
        with looking(file) as advice:
            advise(file, action="checkpoint")
            found.extend((advice.step(), signal.getsignal(signal.SIGUSR2)))

    in_thread(loop).join()
    assert found == [True, before]
    assert caplog.text.count("not in the main thread") == 1


def test_a_forked_worker_follows_nothing(file: Path) -> None:
    with looking(file) as advice:
        advise(file, action="checkpoint")
        pid = os.fork()
        if pid == 0:
            os.kill(os.getpid(), signal.SIGUSR2)
            os._exit(1 if any(advice.step() for _ in range(3)) else 0)
        assert os.waitpid(pid, 0)[1] == 0
        assert advice.step()


def test_numbers_that_do_not_fit_are_named_all_at_once() -> None:
    with pytest.raises(ValueError, match=r"world_size: 0.*max_micro: 0"):
        Advice(global_batch=10, max_micro=0, world_size=0)
    with pytest.raises(ValueError, match="global_batch: 10 cannot be shared by 3"):
        Advice(global_batch=10, world_size=3)
    with pytest.raises(ValueError, match="max_micro: says nothing"):
        Advice(max_micro=4)
    with pytest.raises(ValueError, match="global_batch: missing"):
        Advice().micro  # noqa: B018 - reading it is what fails


def test_one_of_several_ranks_that_cannot_agree_follows_nothing(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    monkeypatch.setitem(sys.modules, "torch.distributed", None)
    monkeypatch.delitem(sys.modules, "torch.distributed")
    advise(file, action="checkpoint", micro_batch=16)
    with looking(file) as advice:
        assert [(advice.step(), advice.micro) for _ in range(3)] == [(False, 48)] * 3
    assert caplog.text.count("no advice is followed") == 1
    with looking(file, ranks="alone") as advice:
        assert (advice.micro, advice.step()) == (16, True)


def test_it_needs_the_standard_library_alone() -> None:
    code = (
        "import sys; before = set(sys.modules); import slurm_power.advice; "
        "print(*sorted(name.partition('.')[0] if not name.startswith('slurm_power.') else name "
        "for name in set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=30
    )
    loaded = set(done.stdout.split())
    ours = {name for name in loaded if name.startswith("slurm_power")}
    assert {name for name in ours if not name.startswith("slurm_power.advice")} == {"slurm_power"}
    assert loaded - ours <= sys.stdlib_module_names
    assert not [name for name in ours if name.endswith(("lightning", "transformers", "torch_ranks"))]


def test_largest_divisor() -> None:
    assert [largest_divisor(12, most) for most in (1, 4, 5, 11, 12, 99)] == [1, 4, 4, 6, 12, 12]
