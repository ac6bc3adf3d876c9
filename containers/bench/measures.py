"""What is measured, each on a running lab: latencies of a cap, cost of daemons and hooks."""

import asyncio
import math
import random
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

from containers.bench.figure import Figure
from containers.bench.processes import processes_with, usage
from containers.cluster.lab import Lab
from containers.demo.stage import ask
from slurm_power.config import SnmpPdu, SunspecMeter
from slurm_power.devices.meter_sunspec import SunspecMeterDriver
from slurm_power.devices.pdu_snmp import SnmpPduDriver

CAP_ROUNDS = 10
COST_SECONDS = 60.0
HOOK_RUNS = 100
EVENT_WATTS = 12_500
DROP_WATTS = 1000.0


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least ``share`` of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def spread(values: list[float], unit: str, scale: float = 1.0) -> str:
    """Median, 99th percentile and maximum as text."""
    return (
        f"p50 {scale * statistics.median(values):.2f}, p99 {scale * percentile(values, 0.99):.2f},"
        f" max {scale * max(values):.2f} {unit} (n = {len(values)})"
    )


class Bench:
    """A lab with one training job on c1, and the questions asked of it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self._run = lab.run_directory

    def plant(self, **request: Any) -> dict[str, Any]:
        """Ask the plant."""
        return ask(self._run / "run" / "plant.sock", request)

    def controller(self, **request: Any) -> dict[str, Any]:
        """Ask powerctld."""
        return ask(self._run / "run" / "powerctld.sock", request)

    def until(self, happened: Callable[[], bool], what: str, seconds: float = 30.0) -> None:
        """Poll until something is so; raises LabError."""
        self.lab.wait_until(happened, what, seconds=seconds)

    def submit(self, seconds: int) -> str:
        """Run a training on all GPUs of c1."""
        load = f"srun plant-load --workload training --seconds {seconds} --seed 1"
        words = ["psbatch", "--parsable", "--workload=training", "--flex=flex3", "--nodes=1"]
        words += ["--ntasks-per-node=1", "--gres=gpu:8", "--nodelist=c1", "--time=30", f"--wrap={load}"]
        job = self.lab.run(words, user="alice").stdout.strip()
        self.until(lambda: self._gpu_watts() > 8 * 500.0, "full power")
        return job

    def _gpu_watts(self) -> float:
        gpus = self.plant(op="truth")["truth"]["nodes"]["c1"]["gpus"]
        return float(sum(gpu["instant_watts"] for gpu in gpus))

    async def cap_latencies(self, job: str) -> list[Figure]:
        """From an event to its cap, and from the cap to its drop at the meter and at the PDU."""
        ports, snmp = self.lab.layout.ports, self.lab.layout.snmp
        meter = SunspecMeterDriver(SunspecMeter(name="meter", address=f"127.0.0.1:{ports['meter']}"))
        pdu = SnmpPduDriver(
            SnmpPdu(
                name="pdu",
                address=f"127.0.0.1:{ports['pdu']['rack1']}",
                user=snmp["user"],
                auth_key_file=self.lab.layout.etc / "snmp_auth_key",
                privacy_key_file=self.lab.layout.etc / "snmp_priv_key",
            )
        )
        to_cap, to_verified, to_meter, to_pdu = [], [], [], []
        phases = random.Random(7)  # noqa: S311  # phases of a measurement, no secret
        for _ in range(CAP_ROUNDS):
            self.plant(op="set_soc", soc_ratio=0.10)
            self.until(self._at_rest, "no cap")
            await asyncio.sleep(3.0 + phases.random() * 2.0)  # another phase of meter and PDU each time
            grid, rack = await meter.read_watts(), await pdu.read_watts()
            asked_at = time.time()
            event_id = self.controller(
                op="event", circuit="grid", limit_watts=EVENT_WATTS, duration_seconds=60, reason="benchmark"
            )["event_id"]
            fell: dict[str, float] = {}
            while len(fell) < 2 and time.time() - asked_at < 15.0:
                if "meter" not in fell and await meter.read_watts() < grid - DROP_WATTS:
                    fell["meter"] = time.time()
                if "pdu" not in fell and await pdu.read_watts() < rack - DROP_WATTS:
                    fell["pdu"] = time.time()
            capped_at = self._ledger_time(job, "cap", asked_at)
            verified_at = self._lease_time(asked_at)
            to_cap.append(capped_at - asked_at)
            to_verified.append(verified_at - asked_at)
            to_meter.append(fell["meter"] - capped_at)
            to_pdu.append(fell["pdu"] - capped_at)
            self.controller(op="cancel_event", event_id=event_id)
        await meter.close()
        await pdu.close()
        return [
            Figure(what="event to cap ordered", value=spread(to_cap, "s")),
            Figure(what="event to cap verified on all GPUs", value=spread(to_verified, "s")),
            Figure(
                what="cap to its drop at the meter (Modbus)",
                value=spread(to_meter, "s"),
                target="2 s",
                ratio=max(to_meter) / 2.0,
            ),
            Figure(
                what="cap to its drop at the PDU (SNMPv3)",
                value=spread(to_pdu, "s"),
                target="4 s",
                ratio=max(to_pdu) / 4.0,
            ),
        ]

    def _at_rest(self) -> bool:
        status = self.controller(op="status")
        capped = any(job["cap_watts"] is not None for job in status["jobs"])
        return not capped and not status["leases"] and not status["events"]

    def _ledger_time(self, job: str, kind: str, after: float) -> float:
        entries = self.controller(op="ledger", since_seconds=60, job_id=job)["entries"]
        times = [
            datetime.fromisoformat(entry["at"]).timestamp() for entry in entries if entry["kind"] == kind
        ]
        return next(at for at in times if at >= after)

    def _lease_time(self, after: float) -> float:
        """When powerd reported the last GPU verified: its log has the moment of the read-back."""
        lines = (self._run / "log" / "powerd.c1.log").read_text().splitlines()
        today = datetime.fromtimestamp(after).astimezone()
        times = []
        for line in lines:
            if ": verified" in line:
                clock = datetime.strptime(line.split(" ")[1], "%H:%M:%S,%f")  # noqa: DTZ007  # joined below
                at = today.replace(
                    hour=clock.hour, minute=clock.minute, second=clock.second, microsecond=clock.microsecond
                ).timestamp()
                if after <= at:
                    times.append(at)
        first = min(times)
        return max(at for at in times if at < first + 0.5)

    def daemon_costs(self) -> list[Figure]:
        """CPU and memory of the daemons over a minute, with a job running."""
        run = str(self._run)
        groups = {
            "powerd of one of four nodes, 8 GPUs at 1 Hz": [
                *processes_with("powerd", f"{run}/etc/node.toml", "--node c1"),
                *processes_with("watchdog", f"{run}/state/powerd.c1"),
            ],
            "powerctld, 4 nodes": processes_with("powerctld", f"{run}/etc/site.toml"),
            "the simulated plant, 32 GPUs": processes_with("containers.plant", run),
        }
        before = {name: usage(ids) for name, ids in groups.items()}
        began = time.monotonic()
        time.sleep(COST_SECONDS)
        passed = time.monotonic() - began
        figures = []
        for name, ids in groups.items():
            now = usage(ids)
            core_ratio = (now.cpu_seconds - before[name].cpu_seconds) / passed
            value = f"{core_ratio:.2%} of a core, {now.pss_bytes / 1e6:.1f} MB PSS, {len(ids)} processes"
            figures.append(Figure(what=f"{name} ({passed:.0f} s)", value=value))
        return figures

    def hook_times(self) -> list[Figure]:
        """Whole run of each hook, interpreter start included, as slurmd starts it."""
        took: dict[str, list[float]] = {"prolog": [], "epilog": []}
        for name, seconds in took.items():
            for number in range(HOOK_RUNS):
                environment = {
                    "SLURM_CONF": str(self.lab.layout.slurm_conf),
                    "SLURMD_NODENAME": "c4",
                    "SLURM_JOB_ID": str(90_000 + number),
                    "SLURM_JOB_USER": "alice",
                    "SLURM_JOB_UID": "20001",
                    "SLURM_JOB_GPUS": "0,1",
                }
                began = time.perf_counter()
                subprocess.run([str(self.lab.layout.etc / name)], env=environment, check=True)
                seconds.append(time.perf_counter() - began)
        both = [sum(pair) for pair in zip(*took.values(), strict=True)]
        ratio = max(percentile(both, 0.5) / 0.030, percentile(both, 0.99) / 0.100)
        return [
            *(Figure(what=f"{name} hook", value=spread(took[name], "ms", 1000.0)) for name in took),
            Figure(
                what="both hooks together",
                value=spread(both, "ms", 1000.0),
                target="p50 30 ms, p99 100 ms",
                ratio=ratio,
            ),
        ]
