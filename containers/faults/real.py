"""Fault trials with real processes: powerd, its watchdog, real NVML calls on simulated GPUs, a real peer.

Each trial has some GPUs capped, breaks something, mends it, and looks past NVML at the GPUs themselves.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from containers.faults.controller import FakeController
from containers.faults.node import NodeBench
from containers.faults.outcome import Outcome
from containers.plant.nvml_control import FaultKind

GPUS = 3
SAFE_WATTS = 350.0
# A lease, what NVML may take to fail, the watchdog's patience with a hung keeper, and a loaded machine.
MOST_SECONDS = 30.0
SMALL_DISK_BYTES = 64 * 1024


class Trial:
    """One node that something happens to. Time counts from ``mended``."""

    def __init__(self, folder: Path, library: Path, munge_socket: str, chance: random.Random) -> None:
        self.chance = chance
        self.munge_socket = munge_socket
        self.node = NodeBench(folder, library, GPUS)
        self.controller = FakeController(munge_socket)
        self.node.settings = {
            "controller": self.controller.address,
            "ca_file": str(self.controller.ca_file),
            "munge_socket": munge_socket,
            "safe_cap_watts": SAFE_WATTS,
        }
        self.before = [chance.choice([700.0, 650.0, 612.5]) for _ in range(GPUS)]
        for slot, watts in enumerate(self.before):
            self.node.gpus.write_foreign_limit(slot, watts)
        self.kinds = [chance.choice(["economic", "safety"]) for _ in range(GPUS)]
        self.ttl_seconds = chance.choice([1.5, 2.5, 4.0])
        self.log: list[str] = []
        self.problems: list[str] = []
        self.powerd: subprocess.Popen[bytes] | None = None
        self.mended = 0.0
        self.rebooted = False

    def say(self, text: str) -> None:
        """Remember what was done."""
        self.log.append(f"{time.monotonic():.2f} {text}")

    def start(self) -> None:
        """Start powerd and have every GPU capped."""
        self.powerd = self.node.start()
        self._await(lambda: self.controller.connected, "no connection")
        for slot in range(GPUS):
            self.grant(slot, self.chance.choice([210.0, 300.0, 450.5]))
        self._await(
            lambda: len(self.controller.said("lease_event", event="verified")) >= GPUS, "caps not set"
        )

    def grant(self, slot: int, watts: float) -> None:
        """Ask for a cap of this trial's kind and time to live."""
        with suppress(OSError, AssertionError):  # a controller that was cut off cannot ask
            self.controller.grant(
                f"lease-{slot}",
                self.node.uuids[slot],
                watts,
                kind=self.kinds[slot],
                ttl_seconds=self.ttl_seconds,
            )

    def _await(self, condition: Callable[[], bool], problem: str, seconds: float = 15.0) -> None:
        until = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > until:
                self.problems.append(problem)
                return
            time.sleep(0.02)

    def pids(self) -> dict[str, int]:
        """Keeper, front and watchdog as far as they run."""
        assert self.powerd is not None
        found = {"keeper": self.powerd.pid}
        for name, child in (("front", self.node.front), ("watchdog", self.node.watchdog)):
            with suppress(OSError):
                pid = child(self.powerd)
                if pid is not None:
                    found[name] = pid
        return found

    def kill(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one of the three."""
        pid = self.pids().get(name)
        self.say(f"{number.name} {name} {pid}")
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        if name == "keeper" and number == signal.SIGKILL and self.powerd is not None:
            self.powerd.wait()

    def kill_all(self) -> None:
        """Keeper and watchdog at the same moment, so that neither restores."""
        pids = self.pids()
        for pid in pids.values():
            os.kill(pid, signal.SIGSTOP)
        for pid in pids.values():
            os.kill(pid, signal.SIGKILL)
        assert self.powerd is not None
        self.powerd.wait()
        self.say("killed all")

    def pause(self, least: float, most: float) -> None:
        """Wait for a while that the seed decides."""
        time.sleep(self.chance.uniform(least, most))

    def inside(self, *words: str) -> None:
        """Run a command in powerd's own mount namespace."""
        assert self.powerd is not None
        subprocess.run(
            ["nsenter", f"--target={self.powerd.pid}", "--mount", "--", *words],
            check=False,
            capture_output=True,
        )

    def expected(self, slot: int) -> float:
        """Where a GPU belongs when the controller is lost."""
        return min(SAFE_WATTS, self.before[slot]) if self.kinds[slot] == "safety" else self.before[slot]

    def at_home(self) -> bool:
        """Whether every GPU is there, past NVML. After a reboot nothing is left to be at a safe value."""
        return all(
            abs(watts - self.expected(slot)) < 0.01
            or (self.rebooted and abs(watts - self.before[slot]) < 0.01)
            for slot, watts in enumerate(self.node.caps())
        )

    def finish(self) -> float:
        """Wait for the safe state, then end powerd and restore on demand; returns the seconds to safe."""
        began = self.mended or time.monotonic()
        while not self.at_home() and time.monotonic() - began < MOST_SECONDS:
            time.sleep(0.02)
        took_seconds = time.monotonic() - began
        if not self.at_home():
            self.problems.append(f"not safe after {took_seconds:.1f} s: {self.node.caps()}")
        self.say(f"safe after {took_seconds:.2f} s")
        if self.powerd is not None and self.powerd.poll() is None:
            self.powerd.terminate()
            try:
                self.powerd.wait(15)
            except subprocess.TimeoutExpired:
                self.problems.append("powerd does not end")
        if not self.at_home():
            self.problems.append(f"not where it was at the end: {self.node.caps()}")
        return took_seconds

    def close(self) -> None:
        """End whatever still runs."""
        self.controller.discard()
        self.node.close()


def sigkill(trial: Trial) -> None:
    """The keeper, the front or the watchdog dies."""
    for _ in range(trial.chance.randrange(1, 4)):
        watched = "watchdog" in trial.pids()
        trial.kill(trial.chance.choice(["keeper", "front", "watchdog"]))
        trial.pause(0.0, 0.4)
        if trial.powerd is not None and trial.powerd.poll() is not None:
            if not watched or trial.chance.random() < 0.5:
                time.sleep(1.0)  # as systemd does it
                trial.powerd = trial.node.start(wait=False)
            return


def sigstop(trial: Trial) -> None:
    """Keeper or front stops for longer than the leases live, and goes on, or never does."""
    name = trial.chance.choice(["keeper", "front"])
    trial.kill(name, signal.SIGSTOP)
    trial.mended = time.monotonic()
    if trial.chance.random() < 0.5:
        trial.pause(0.1, 3.0)
        trial.kill(name, signal.SIGCONT)
        trial.mended = time.monotonic()


def double_kill(trial: Trial) -> None:
    """Both die, in any order; the next start restores, perhaps after it was killed once more."""
    if trial.chance.random() < 0.5:
        trial.kill_all()
    else:
        first, second = trial.chance.sample(["keeper", "watchdog"], 2)
        trial.kill(first)
        trial.pause(0.0, 0.05)
        with suppress(OSError):
            trial.kill(second)
    if trial.powerd is not None and trial.powerd.poll() is None:
        trial.powerd.kill()
        trial.powerd.wait()
    if trial.chance.random() < 0.5:
        again = trial.node.start(wait=False)
        trial.pause(0.0, 0.6)
        again.kill()
        again.wait()
    trial.powerd = trial.node.start(wait=False)


def reboot(trial: Trial) -> None:
    """Everything dies, the driver comes up with its defaults, perhaps with a torn save file."""
    trial.kill_all()
    trial.rebooted = True
    for slot in range(GPUS):
        trial.node.gpus.reload_driver(slot)
        trial.before[slot] = trial.node.cap(slot)
    saved = trial.node.state / "saved_settings.json"
    if trial.chance.random() < 0.3 and saved.exists():
        text = saved.read_text()
        saved.write_text(text[: trial.chance.randrange(len(text))])
        trial.say("torn")
    boot_id = trial.node.folder / "boot_id"
    boot_id.write_text(f"{trial.chance.getrandbits(64):016x}\n")
    script = f'mount --bind {boot_id} /proc/sys/kernel/random/boot_id && exec "$@"'
    trial.node.wrapper = ["unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh"]
    trial.powerd = trial.node.start(wait=False)


def disk(trial: Trial) -> None:
    """The disk fills up or goes read-only while leases change, and is well again."""
    full = trial.chance.random() < 0.5
    state = str(trial.node.state)
    if full:
        trial.inside("sh", "-c", f"cat /dev/zero > {state}/filler 2>/dev/null")
    else:
        trial.inside("mount", "-o", "remount,ro", state)
    trial.say("full" if full else "read-only")
    for slot in range(GPUS):
        trial.grant(slot, trial.chance.choice([220.0, 320.0]))
    trial.pause(0.2, trial.ttl_seconds + 1.0)
    if full:
        trial.inside("rm", "-f", f"{state}/filler")
    else:
        trial.inside("mount", "-o", "remount,rw", state)


def small_disk(trial: Trial) -> None:
    """Have the state directory on a small disk of powerd's own."""
    trial.node.state.mkdir(exist_ok=True)
    script = f'mount -t tmpfs -o size={SMALL_DISK_BYTES},mode=711 tmpfs {trial.node.state} && exec "$@"'
    trial.node.wrapper = ["unshare", "--mount", "--propagation=private", "sh", "-c", script, "sh"]


def nvml(trial: Trial, *kinds: FaultKind, value: float = 0.0) -> None:
    """Something with the driver, on some GPUs, beyond the end of the leases or not."""
    slots = [slot for slot in range(GPUS) if trial.chance.random() < 0.7] or [0]
    kind = trial.chance.choice(kinds)
    for slot in slots:
        trial.node.gpus.set_fault(slot, kind, value=value)
    trial.say(f"{kind.name} on {slots}")
    trial.pause(0.1, trial.ttl_seconds + 1.5)
    if trial.chance.random() < 0.3:
        trial.kill("keeper")
    for slot in slots:
        trial.node.gpus.clear_fault(slot, kind)


def uuid_order(trial: Trial) -> None:
    """The index order changes, twice, and a GPU is lost in between."""
    for _ in range(2):
        order = list(range(GPUS))
        trial.chance.shuffle(order)
        trial.node.gpus.order_indices(order)
        trial.pause(0.1, 0.6)
    nvml(trial, FaultKind.LOST)


def foreign(trial: Trial) -> None:
    """Somebody else writes limits; each is repaired while the lease lives."""
    for _ in range(3):
        slot = trial.chance.randrange(GPUS)
        trial.node.gpus.write_foreign_limit(slot, trial.chance.choice([250.0, 500.0, 699.0]))
        trial.pause(0.05, 0.5)


def controller_gone(trial: Trial) -> None:
    """The connection is cut, the peer falls silent, or it is gone for good."""
    match trial.chance.randrange(3):
        case 0:
            trial.controller.drop()
        case 1:
            trial.controller.deaf = True
        case _:
            trial.controller.close()


def two_controllers(trial: Trial) -> None:
    """Another controller takes the place of the first, asks for something else, and goes."""
    port = trial.controller.port
    trial.controller.close()
    trial.controller = FakeController(trial.munge_socket, port, before=trial.controller)
    trial._await(lambda: trial.controller.connected, "the second controller is not found")  # same file
    for slot in range(GPUS):
        trial.grant(slot, trial.chance.choice([205.0, 333.0, 500.0]))
    trial.pause(0.1, 0.5)


def bad_messages(trial: Trial) -> None:
    """Forged below TLS, oversized and malformed inside it: none may change a GPU."""
    grant = {"lease_id": "evil", "uuid": trial.node.uuids[0], "cap_watts": 200.0, "ttl_seconds": 3000.0}
    forged = json.dumps(
        {"type": "grant", "leases": [{**grant, "kind": "economic", "reason": "evil"}]}
    ).encode()
    below = [forged + b"\n", b"\x17\x03\x03\x00\x20" + os.urandom(32), os.urandom(2000)]
    inside = [b"x" * (2 << 20), os.urandom(2000) + b"\n", forged[: len(forged) // 2] + b"\n", b"[1]\n"]
    for _ in range(3):
        trial._await(lambda: trial.controller.connected, "no connection")  # same file
        with suppress(OSError, AssertionError):
            if trial.chance.random() < 0.5:
                trial.controller.send_below_tls(trial.chance.choice(below))
            else:
                trial.controller.send_raw(trial.chance.choice(inside))
        trial.pause(0.05, 0.4)
    if 200.0 in trial.node.caps():
        trial.problems.append("a bad message was obeyed")


def clock_jump(trial: Trial) -> None:
    """The wall clock jumps by hours, forwards or backwards."""
    hours = trial.chance.choice([-48, -1, 1, 48])
    (trial.node.folder / "clock").write_text(f"{3600 * hours}\n")
    trial.say(f"clock {hours:+d} h")
    trial.pause(0.2, 1.0)


def own_clock(trial: Trial) -> None:
    """Let the wall clock of powerd and its children be ours to move; MUNGE needs the true one at first."""
    clock = trial.node.folder / "clock"
    clock.write_text("0\n")
    library = Path(trial.node.environment["LD_LIBRARY_PATH"]) / "wall_clock.so"
    trial.node.environment |= {"LD_PRELOAD": str(library), "WALL_CLOCK_FILE": str(clock)}


def build_wall_clock(folder: Path) -> None:
    """Compile what moves a wall clock into the folder of the simulated NVML library."""
    source = Path(__file__).with_name("wall_clock.c")
    command = ["cc", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, "-o", str(folder / "wall_clock.so"), str(source), "-ldl"], check=True)


Step = Callable[[Trial], None]
KINDS: dict[str, tuple[Step | None, Step]] = {
    "SIGKILL": (None, sigkill),
    "SIGSTOP": (None, sigstop),
    "double kill": (None, double_kill),
    "reboot, torn file": (None, reboot),
    "disk full or read-only": (small_disk, disk),
    "NVML errors": (None, lambda trial: nvml(trial, FaultKind.SET_ERROR, FaultKind.SET_IGNORED, value=4)),
    "GPU lost and back": (None, lambda trial: nvml(trial, FaultKind.LOST)),
    "slow NVML": (None, lambda trial: nvml(trial, FaultKind.SLOW_CALL, value=0.4)),
    "out-of-band lower limit": (None, lambda trial: nvml(trial, FaultKind.OUT_OF_BAND_LIMIT, value=250.0)),
    "UUID order": (None, uuid_order),
    "foreign writer": (None, foreign),
    "network cut, controller gone": (None, controller_gone),
    "two controllers": (None, two_controllers),
    "bad messages": (None, bad_messages),
    "clock jump": (own_clock, clock_jump),
}


def run_trial(kind: str, seed: int, place: Path, library: Path, munge_socket: str) -> Outcome:
    """One trial of a kind in a folder of its own below ``place``."""
    chance = random.Random(f"real {kind} {seed}")  # noqa: S311  # trials have to be repeatable
    folder = Path(tempfile.mkdtemp(dir=place))
    folder.chmod(0o755)
    trial = Trial(folder, library, munge_socket, chance)
    prepare, fault = KINDS[kind]
    safe_seconds = 0.0
    try:
        if prepare is not None:
            prepare(trial)
        trial.start()
        fault(trial)
        trial.mended = trial.mended or time.monotonic()
        safe_seconds = trial.finish()
    except (OSError, AssertionError, ValueError) as error:
        trial.problems.append(f"the trial broke: {type(error).__name__}: {error}")
    finally:
        if trial.problems:
            trial.log += trial.node.log_text().splitlines()[-60:]
        trial.close()
        shutil.rmtree(folder, ignore_errors=True)
    return Outcome(
        kind=kind, seed=seed, problems=tuple(trial.problems), safe_seconds=safe_seconds, log=tuple(trial.log)
    )
