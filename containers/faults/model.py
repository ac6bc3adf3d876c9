"""Fault trials on a model: the real leases and save file, GPUs and a disk in memory, and a clock of our own.

A trial draws what the controller asks, what breaks and when from its seed alone, then mends everything, lets
the controller be lost, and looks whether each GPU is where it has to be.
"""

import math
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from containers.faults.gpus import FakeGpus, KilledError
from containers.faults.outcome import Outcome
from slurm_power.model.lease import LeaseKey, LeaseState, Lever
from slurm_power.model.site import LimitKind
from slurm_power.node.leases import Leases
from slurm_power.node.orders import GrantOrder
from slurm_power.node.saved_settings import SavedSettings, write_durably

UUIDS = ("GPU-a", "GPU-b", "GPU-c")
DEFAULT_WATTS = 700.0
SAFE_WATTS = 350.0
# As the keeper does it: a round a second, sooner after a miss.
STEP_SECONDS = 0.25
MOST_SECONDS = 60.0
EVENTS_A_TRIAL = 24
LONGEST_TTL_SECONDS = 10.0


class Disk:
    """The folder of the save file. ``fault`` is what is wrong with it, ``kill`` when the next write dies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fault = ""
        self.kill = ""

    def write(self, file: Path, text: str) -> None:
        """Replace a file as `write_durably` does, unless something is wrong."""
        if self.fault:
            raise OSError(28 if self.fault == "full" else 30, f"{self.fault} by fault", str(file))
        kill, self.kill = self.kill, ""
        if kill == "before":
            raise KilledError
        if kill == "torn":
            file.with_suffix(".new").write_text(text[: len(text) // 2])
            raise KilledError
        write_durably(file, text)
        if kill == "after":
            raise KilledError


class Node:
    """One node's leases in a world that breaks. Every change goes into ``log``."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.chance = chance
        self.disk = Disk(folder)
        self.gpus = FakeGpus(*UUIDS)
        self.baseline = {uuid: chance.choice([DEFAULT_WATTS, 650.0, 612.5]) for uuid in UUIDS}
        for uuid, watts in self.baseline.items():
            self.gpus.gpus[uuid].requested_watts = watts
        self.safe_watts = chance.choice([SAFE_WATTS, None])
        self.now = 0.0
        self.boot = 1
        self.log: list[str] = []
        self.problems: list[str] = []
        self.start()

    def start(self) -> None:
        """A new process: it knows what is on disk, and nothing else."""
        self.gpus.kill_at, self.disk.kill = None, ""
        self.saved = SavedSettings(self.disk.folder, write=self.disk.write)
        self.leases = Leases(
            self.gpus, self.saved, boot_id=f"boot-{self.boot}", safe_cap_watts=self.safe_watts
        )
        self.leases.recover()

    def records(self) -> set[LeaseKey]:
        """What the save file holds."""
        return set(SavedSettings(self.disk.folder).load())

    def tick(self, seconds: float) -> None:
        """Let time pass and every GPU have its step; a process that dies in it is started again."""
        self.now += seconds
        try:
            events = self.leases.tick(self.now)
        except KilledError:
            self.log.append("killed")
            self.start()
            return
        for event in events:
            if event.event == "yielded" and event.requested is not None:
                self.baseline[event.uuid] = event.requested
        self._check_records()

    def _check_records(self) -> None:
        """Nothing is changed without a record, at no moment."""
        records = self.records()
        for uuid, gpu in self.gpus.gpus.items():
            if LeaseKey(uuid, Lever.POWER_CAP) not in records and gpu.requested_watts != self.baseline[uuid]:
                self.problems.append(f"{uuid} at {gpu.requested_watts:g} W without a record")
            if LeaseKey(uuid, Lever.CLOCK_LOCK) not in records and gpu.lock_hertz is not None:
                self.problems.append(f"{uuid} locked without a record")

    # --- what the controller asks -----------------------------------------------------------------------

    def grant(self) -> None:
        """Ask for a cap or a lock, new or in place of another."""
        chance = self.chance
        lock = chance.random() < 0.3
        bound = (
            chance.choice([6e8, 9e8, 1.2e9]) if lock else chance.choice([200.0, 350.0, 400.5, 650.0, 700.0])
        )
        order = GrantOrder(
            lease_id=f"L{chance.randrange(4)}",
            uuid=chance.choice(UUIDS),
            lever=Lever.CLOCK_LOCK if lock else Lever.POWER_CAP,
            bound=bound,
            expires_at_seconds=self.now + chance.choice([1.0, 5.0, LONGEST_TTL_SECONDS]),
            kind=LimitKind.ECONOMIC if lock else chance.choice(list(LimitKind)),
            job_id=chance.choice(["7", "8"]),
            reason="trial",
        )
        self.log.append(f"{self.now:.2f} grant {order.uuid} {order.bound:g} {order.kind}")
        self.leases.order(order)

    def release(self) -> None:
        """End a lease, a job's leases, or all."""
        what = self.chance.randrange(3)
        self.log.append(f"{self.now:.2f} release {what}")
        if what == 0:
            self.leases.release([f"L{self.chance.randrange(4)}"], "trial")
        elif what == 1:
            self.leases.release_job(self.chance.choice(["7", "8"]), "trial")
        else:
            self.leases.end_all("trial")

    def controller(self) -> None:
        """Lose the controller or have it back."""
        self.leases.controller_connected = self.chance.random() < 0.5

    # --- what breaks --------------------------------------------------------------------------------------

    def kill_at_device(self) -> None:
        """Die at one of the next device calls."""
        self.gpus.kill_at = self.chance.randrange(1, 12)

    def kill_at_disk(self) -> None:
        """Die before, in the middle of, or after the next write to the disk."""
        self.disk.kill = self.chance.choice(["before", "torn", "after"])

    def kill_twice(self) -> None:
        """Die, and die again in the first steps of the next process."""
        self.start()
        self.gpus.kill_at = self.chance.randrange(1, 6)
        self.tick(0.1)

    def reboot(self) -> None:
        """The state directory survives; the driver comes up with its defaults."""
        self.boot += 1
        bounds = {key: record.bound for key, record in SavedSettings(self.disk.folder).load().items()}
        for uuid, gpu in self.gpus.gpus.items():
            gpu.requested_watts, gpu.lock_hertz, gpu.reads_until_settled = DEFAULT_WATTS, None, 0
            gpu.shown_watts = DEFAULT_WATTS
            # What shows something else than our cap is nobody's of ours; what shows it may be ours still.
            ours = bounds.get(LeaseKey(uuid, Lever.POWER_CAP))
            if ours is None or abs(ours - DEFAULT_WATTS) > 1.0:
                self.baseline[uuid] = DEFAULT_WATTS
        self.log.append(f"{self.now:.2f} reboot")
        self.start()

    def power_cut(self) -> None:
        """A reboot that finds the save file torn, as a broken file system may leave it."""
        file = self.saved.file
        if file.exists():
            text = file.read_text()
            file.write_text(text[: self.chance.randrange(len(text) + 1)])
        self.reboot()

    def disk_fault(self) -> None:
        """Full, read-only, or well again."""
        self.disk.fault = self.chance.choice(["full", "read-only", ""])
        self.log.append(f"{self.now:.2f} disk {self.disk.fault or 'fine'}")

    def gpu_fault(self, *names: str) -> None:
        """Something with one GPU begins or ends."""
        name, uuid = self.chance.choice(names), self.chance.choice(UUIDS)
        on = self.chance.random() < 0.6
        self.log.append(f"{self.now:.2f} {uuid} {name} {on}")
        setattr(self.gpus.gpus[uuid], name, on)

    def settle(self) -> None:
        """A driver that shows a write only after some reads."""
        self.gpus.gpus[self.chance.choice(UUIDS)].settle_reads = self.chance.randrange(4)

    def out_of_band(self) -> None:
        """A lower limit from elsewhere comes or goes."""
        self.gpus.gpus[self.chance.choice(UUIDS)].out_of_band_watts = self.chance.choice([300.0, 1000.0])

    def foreign_write(self) -> None:
        """Somebody else writes a power limit."""
        uuid = self.chance.choice(UUIDS)
        gpu = self.gpus.gpus[uuid]
        gpu.requested_watts = gpu.shown_watts = self.chance.choice([250.0, 500.25, 700.0])
        gpu.reads_until_settled = 0
        self.log.append(f"{self.now:.2f} {uuid} foreign {gpu.requested_watts:g}")
        record = SavedSettings(self.disk.folder).load().get(LeaseKey(uuid, Lever.POWER_CAP))
        # After a boot, what shows something else than the cap we had is somebody else's from the start.
        after_boot = record is not None and record.boot_id != f"boot-{self.boot}"
        if record is None or (after_boot and abs(record.bound - gpu.requested_watts) > 1.0):
            self.baseline[uuid] = gpu.requested_watts

    def yields(self) -> None:
        """The administrator takes the node for a while, or gives it back."""
        self.leases.yield_until(self.now + self.chance.choice([0.0, 3.0, 20.0]))
        self.log.append(f"{self.now:.2f} yield")

    # --- the end ------------------------------------------------------------------------------------------

    def mend(self) -> None:
        """Everything works again, and whoever was killed has been started."""
        self.disk.fault = self.disk.kill = ""
        self.gpus.kill_at = None
        for gpu in self.gpus.gpus.values():
            gpu.lost = gpu.refuses_writes = gpu.ignores_writes = gpu.writes_then_fails = False
            gpu.settle_reads = 0
        self.leases.controller_connected = False

    def at_home(self) -> bool:
        """Whether each GPU is where a lost controller has to leave it."""
        for lease in self.leases.leases():
            if lease.state is not LeaseState.SAFE:
                return False
        for uuid, gpu in self.gpus.gpus.items():
            held = self.leases.get(LeaseKey(uuid, Lever.POWER_CAP))
            safe = math.inf if held is None or held.safe is None else held.safe
            if gpu.requested_watts != min(self.baseline[uuid], safe) or gpu.lock_hertz is not None:
                return False
        return True

    def end(self) -> float:
        """Mend, wait for a safe state, then release what rests; returns the seconds it took to be safe."""
        self.mend()
        began = self.now
        while not self.at_home() and self.now - began < MOST_SECONDS:
            self.tick(STEP_SECONDS)
        took_seconds = self.now - began
        if not self.at_home():
            self.problems.append(f"not safe after {MOST_SECONDS:g} s")
        self.leases.release([lease.lease_id for lease in self.leases.leases()], "the end")
        for _ in range(20):
            self.tick(STEP_SECONDS)
        left = [uuid for uuid, gpu in self.gpus.gpus.items() if gpu.requested_watts != self.baseline[uuid]]
        left += [uuid for uuid, gpu in self.gpus.gpus.items() if gpu.lock_hertz is not None]
        if left or self.leases.leases() or self.records():
            self.problems.append(f"left at the end: {left}, records {sorted(self.records())}")
        return took_seconds


Fault = Callable[[Node], None]
KINDS: dict[str, tuple[Fault, ...]] = {
    "SIGKILL at a device call": (Node.kill_at_device,),
    "SIGKILL at a disk write": (Node.kill_at_disk,),
    "double kill": (Node.kill_twice, Node.kill_at_device),
    "reboot": (Node.reboot,),
    "power cut, torn file": (Node.power_cut,),
    "disk full or read-only": (Node.disk_fault,),
    "GPU lost and back": (lambda node: node.gpu_fault("lost"),),
    "NVML errors": (lambda node: node.gpu_fault("refuses_writes", "writes_then_fails"),),
    "write ignored": (lambda node: node.gpu_fault("ignores_writes"),),
    "write shows late": (Node.settle,),
    "out-of-band lower limit": (Node.out_of_band,),
    "foreign writer": (Node.foreign_write,),
    "yielded node": (Node.yields, Node.foreign_write),
    "everything at once": (
        *(Node.kill_at_device, Node.kill_at_disk, Node.kill_twice, Node.reboot, Node.disk_fault),
        *(Node.settle, Node.out_of_band, Node.foreign_write, Node.yields),
        lambda node: node.gpu_fault("lost", "refuses_writes", "ignores_writes", "writes_then_fails"),
    ),
}


def run_trial(kind: str, seed: int) -> Outcome:
    """One trial of a kind; the same seed gives the same trial."""
    chance = random.Random(f"{kind} {seed}")  # noqa: S311  # trials have to be repeatable
    folder = Path(tempfile.mkdtemp(prefix="sp-faults-", dir=_memory()))
    try:
        node = Node(folder, chance)
        for _ in range(EVENTS_A_TRIAL):
            draw = chance.random()
            if draw < 0.30:
                node.grant()
            elif draw < 0.36:
                node.release()
            elif draw < 0.40:
                node.controller()
            elif draw < 0.65:
                chance.choice(KINDS[kind])(node)
            node.tick(chance.choice([0.05, 0.25, 1.0, 3.0]))
        safe_seconds = node.end()
    finally:
        shutil.rmtree(folder)
    return Outcome(
        kind=kind, seed=seed, problems=tuple(node.problems), safe_seconds=safe_seconds, log=tuple(node.log)
    )


def _memory() -> str | None:
    """Where a folder costs no disk: thousands of trials sync thousands of files."""
    return "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108  # a folder of our own is made in it
