"""The load program of a job: its GPUs draw the power of a workload class, and what got done is counted.

It ends with one JSON line on stdout. `throughput_ratio` is what caps, clock locks and faults left of the
uncapped throughput while it was working; one work unit is one second of uncapped work at the reference batch.
A step with several tasks runs one of these per task; each takes the GPUs that Slurm gave to it.
"""

import argparse
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from containers.plant.nvml_control import LIBRARY_NAME, NodeGpus
from slurm_power.config.problems import ConfigError
from slurm_power.simulate.constants import PlantConstants, WorkloadConstants, load_constants
from slurm_power.simulate.workload import Demand, Shape, Workload

TICK_SECONDS = 0.1
LEASE_SECONDS = 2.0
WEIGHTS_SHARE = 0.6
GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS")
PLANT_FILE = Path(__file__).with_name("plant.toml")


class LoadError(Exception):
    """The program cannot run here; the text says why."""


class _Terminated(BaseException):
    """SIGTERM or SIGINT came."""


@dataclass(slots=True)
class Tally:
    """What the GPUs did: seconds asked for and seconds' worth done, while working."""

    asked_seconds: float = 0.0
    done_seconds: float = 0.0

    @property
    def throughput_ratio(self) -> float | None:
        """Return the share of the uncapped throughput; None before any work."""
        return self.done_seconds / self.asked_seconds if self.asked_seconds > 0.0 else None


class Runner:
    """Drives some GPUs of one node through the shape of a workload."""

    def __init__(self, gpus: NodeGpus, slots: list[int], shape: Shape, memory_bytes: int) -> None:
        self.gpus, self.slots, self.shape, self.memory_bytes = gpus, slots, shape, memory_bytes
        self.tally = Tally()
        self.begin_seconds = time.monotonic()
        self.begin_joules = [gpus.truth(slot).energy_joules for slot in slots]
        self._work_seconds = self._read_work()
        self._read_at_seconds = self.begin_seconds

    @property
    def elapsed_seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self.begin_seconds

    @property
    def work_units(self) -> float:
        """Work done so far, in seconds of uncapped work at the reference batch."""
        return self.tally.done_seconds * self.shape.throughput_ratio

    def run(self, seconds: float | None, work_units: float | None) -> None:
        """Work until the time is over or the work is done, whichever comes first."""
        while (seconds is None or self.elapsed_seconds < seconds) and (
            work_units is None or self.work_units < work_units
        ):
            demand = self.shape.demand(self.elapsed_seconds)
            self._apply(demand)
            time.sleep(TICK_SECONDS)
            self._count(demand)

    def stop(self) -> None:
        """Take load and process off the GPUs."""
        for slot in self.slots:
            self.gpus.clear_load(slot)
            self.gpus.remove_process(slot, os.getpid())

    def _apply(self, demand: Demand) -> None:
        for slot in self.slots:
            self.gpus.add_process(
                slot, os.getpid(), memory_bytes=self.memory_bytes, lease_seconds=LEASE_SECONDS
            )
            self.gpus.set_load(
                slot,
                demand_watts=demand.demand_watts,
                static_watts=demand.static_watts,
                compute_bound_ratio=demand.compute_bound_ratio,
                utilization_ratio=demand.utilization_ratio,
                resident=True,
                lease_seconds=LEASE_SECONDS,
            )

    def _read_work(self) -> float:
        """Return the seconds of work per GPU, as a mean: the GPUs of a job wait for each other."""
        return sum(self.gpus.truth(slot).work_seconds for slot in self.slots) / len(self.slots)

    def _count(self, demand: Demand) -> None:
        work, before = self._read_work(), self._work_seconds
        now, then = time.monotonic(), self._read_at_seconds
        self._work_seconds, self._read_at_seconds = work, now
        if demand.working:
            self.tally.done_seconds += work - before
            self.tally.asked_seconds += now - then

    def summary(self) -> dict[str, object]:
        """Return what the last line says."""
        elapsed = self.elapsed_seconds
        joules = [
            self.gpus.truth(slot).energy_joules - before
            for slot, before in zip(self.slots, self.begin_joules, strict=True)
        ]
        return {
            "workload": self.shape.workload.value,
            "seconds": elapsed,
            "gpu_slots": self.slots,
            "work_units": self.work_units,
            "throughput_ratio": self.tally.throughput_ratio,
            "mean_watts": sum(joules) / elapsed if elapsed > 0.0 else None,
            "joules_per_gpu": joules,
        }


def find_state(environment: dict[str, str]) -> Path:
    """Return the state file of this node's GPUs; raises LoadError."""
    told = environment.get("PLANT_NVML_STATE")
    if told:
        return Path(told)
    node, configuration = environment.get("SLURMD_NODENAME"), environment.get("SLURM_CONF")
    if not node or not configuration:
        raise LoadError("neither PLANT_NVML_STATE nor SLURMD_NODENAME and SLURM_CONF say where the GPUs are")
    return Path(configuration).parent.parent / "nvml" / f"{node}.state"


def find_library(state: Path) -> Path:
    """Return the lab's library, or the bare name, which the loader finds where it is installed."""
    beside = state.parent.parent / "lib" / LIBRARY_NAME
    return beside if beside.exists() else Path(LIBRARY_NAME)


def find_slots(environment: dict[str, str], gpus: NodeGpus) -> list[int]:
    """Return the slots of the GPUs that Slurm gave to this task; raises LoadError."""
    for variable in GPU_VARIABLES:
        words = [word for word in environment.get(variable, "").split(",") if word]
        if not words:
            continue
        slots_by_uuid = {gpus.uuid(slot): slot for slot in range(gpus.gpu_count)}
        try:
            slots = [slots_by_uuid[word] if word.startswith("GPU-") else int(word) for word in words]
        except (KeyError, ValueError):
            raise LoadError(f"{variable}={environment[variable]} names no GPUs of this node") from None
        if any(not 0 <= slot < gpus.gpu_count for slot in slots):
            raise LoadError(f"{variable}={environment[variable]}: the node has {gpus.gpu_count} GPUs")
        return slots
    raise LoadError(f"no GPUs: none of {', '.join(GPU_VARIABLES)} is set")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m containers.plant.load", description=__doc__)
    parser.add_argument("--workload", choices=[workload.value for workload in Workload], required=True)
    parser.add_argument("--seconds", type=_positive, help="end after so many seconds")
    parser.add_argument("--work-units", type=_positive, help="end when so much work is done")
    parser.add_argument("--batch", type=int, help="batch size (default: the class's reference)")
    parser.add_argument("--seed", type=int, help="of the shape (default: the job's id)")
    parser.add_argument("--name", help="repeated in the last line")
    parser.add_argument("--plant", type=Path, help="the constants (default: those the lab's plant runs with)")
    arguments = parser.parse_args()
    if arguments.seconds is None and arguments.work_units is None:
        parser.error("one of --seconds and --work-units is needed")
    if arguments.batch is not None and arguments.batch < 1:
        parser.error("--batch: must be at least 1")
    return arguments


def _positive(word: str) -> float:
    number = float(word)
    if not 0.0 < number < float("inf"):
        raise argparse.ArgumentTypeError("must be above 0")
    return number


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise _Terminated


def find_constants(state: Path) -> Path:
    """Return the constants that the plant left beside its states, or the plant's own."""
    beside = state.with_name(PLANT_FILE.name)
    return beside if beside.exists() else PLANT_FILE


def _runner(arguments: argparse.Namespace, gpus: NodeGpus, constants: PlantConstants) -> Runner:
    environment = dict(os.environ)
    job_text = environment.get("SLURM_JOB_ID", "0")
    seed = arguments.seed if arguments.seed is not None else int(job_text)
    workload = Workload(arguments.workload)
    of_class: WorkloadConstants = getattr(constants, workload.value)
    shape = Shape(workload, of_class, constants.gpu.limit_max_watts, seed, arguments.batch)
    memory_bytes = int(WEIGHTS_SHARE * constants.gpu.memory_bytes)
    return Runner(gpus, find_slots(environment, gpus), shape, memory_bytes)


def main() -> int:
    """Run one task's load; exit status 0, 2 when it cannot run here, 143 after SIGTERM."""
    arguments = _arguments()
    try:
        state = find_state(dict(os.environ))
        constants = load_constants(arguments.plant or find_constants(state))
        gpus = NodeGpus(find_library(state), state)
        runner = _runner(arguments, gpus, constants)
    except (ConfigError, LoadError, OSError) as error:
        print(f"load: {error}", file=sys.stderr)
        return 2
    status = 0
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _terminate)
    try:
        runner.run(arguments.seconds, arguments.work_units)
    except _Terminated:
        status = 128 + signal.SIGTERM
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    runner.stop()
    summary = runner.summary() | {"name": arguments.name, "finished": status == 0}
    print(json.dumps(summary), flush=True)
    gpus.close()
    return status


if __name__ == "__main__":
    sys.exit(main())
