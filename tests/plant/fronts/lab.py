"""A plant in a run directory of its own, and independent clients for what it serves."""

import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import sunspec2.device
from pymodbus.client import ModbusTcpClient

from containers.plant.__main__ import PLANT_FILE

ROOT = Path(__file__).parents[3]
SNMP = {
    "community": "public-lab",
    "user": "meter",
    "auth_key": "authentic-words",
    "priv_key": "private-words",
}
UNIT = 1


def free_ports(count: int) -> list[int]:
    """Return ports that nobody used a moment ago, for TCP as for UDP."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def eventually(check: Callable[[], bool], seconds: float = 10.0) -> None:
    """Poll until a check holds; fails the test when it does not in time."""
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, f"not within {seconds:g} s"
        time.sleep(0.02)


class SunSpec:
    """Reads and writes points by name: definitions from pysunspec2, frames by pymodbus."""

    def __init__(self, port: int, timeout_seconds: float = 2.0) -> None:
        self.client = ModbusTcpClient("127.0.0.1", port=port, timeout=timeout_seconds, retries=0)
        assert self.client.connect()  # type: ignore[no-untyped-call]  # pymodbus
        self.models: dict[int, tuple[int, Any]] = {}
        assert self.read(40000, 2) == list(struct.unpack(">2H", b"SunS"))
        address = 40002
        while (model_id := self.read(address, 1)[0]) != 0xFFFF:
            self.models[model_id] = (address, sunspec2.device.Model(model_id=model_id))
            address += 2 + self.read(address + 1, 1)[0]

    def close(self) -> None:
        """Hang up."""
        self.client.close()  # type: ignore[no-untyped-call]  # pymodbus

    def read(self, address: int, count: int) -> list[int]:
        """Read registers."""
        reply = self.client.read_holding_registers(address, count=count, device_id=UNIT)
        assert not reply.isError(), reply
        return list(reply.registers)

    def raw(self, model_id: int, name: str) -> int:
        """Read a point as it stands."""
        start, model = self.models[model_id]
        point = model.points[name]
        words = self.read(start + point.offset, point.len)
        return int(point.info.data_to(struct.pack(f">{point.len}H", *words)))

    def get(self, model_id: int, name: str) -> float:
        """Read a point with its scale factor."""
        scale = self.models[model_id][1].points[name].pdef.get("sf")
        return self.raw(model_id, name) * (10.0 ** self.raw(model_id, scale) if scale else 1.0)

    def put(self, model_id: int, name: str, value: float) -> int:
        """Write a point; returns the Modbus exception code, 0 when it was taken."""
        start, model = self.models[model_id]
        point = model.points[name]
        scale = point.pdef.get("sf")
        raw = round(value / (10.0 ** self.raw(model_id, scale) if scale else 1.0))
        words = struct.unpack(f">{point.len}H", point.info.to_data(raw, point.len * 2))
        reply = self.client.write_registers(start + point.offset, list(words), device_id=UNIT)
        return reply.exception_code if reply.isError() else 0


class PlantLab:
    """Four nodes on two racks. Start it, ask it, stop it."""

    def __init__(self, **constants: float) -> None:
        self.run = Path(tempfile.mkdtemp(prefix="sp-", dir="/tmp"))
        for folder in ("etc", "run"):
            (self.run / folder).mkdir()
        ports = free_ports(4)
        self.meter_port, self.pcs_port = ports[:2]
        self.pdu_ports = {"rack1": ports[2], "rack2": ports[3]}
        (self.run / "etc" / "testbed.json").write_text(json.dumps(self._record()))
        self.plant_file = self.run / "etc" / "plant.toml"
        self.plant_file.write_text(_changed(PLANT_FILE.read_text(), constants))
        self.process: subprocess.Popen[str] | None = None
        self._jobs: list[subprocess.Popen[str]] = []

    def _record(self) -> dict[str, object]:
        return {
            "run_directory": str(self.run),
            "gpus_per_node": 8,
            "nodes": {"c1": "rack1", "c2": "rack1", "c3": "rack2", "c4": "rack2"},
            "ports": {"meter": self.meter_port, "pcs": self.pcs_port, "pdu": self.pdu_ports},
            "snmp": SNMP,
        }

    def command(self, *more: str) -> list[str]:
        """Return the command that runs the plant."""
        return [
            *(sys.executable, "-m", "containers.plant", "run", str(self.run)),
            *("--plant", str(self.plant_file), *more),
        ]

    def start(self, *more: str) -> None:
        """Run the plant and wait until it is ready; a killed one may have left its mark."""
        ready = self.run / "run" / "plant.ready"
        ready.unlink(missing_ok=True)
        self.process = subprocess.Popen(
            self.command(*more), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        process = self.process
        eventually(lambda: ready.exists() or process.poll() is not None, 30.0)
        assert process.poll() is None, process.communicate()[1]

    def stop(self) -> tuple[int, str]:
        """End the plant; returns its exit status and what it said on stderr."""
        assert self.process is not None
        process = self.process
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
        self.process = None
        return process.returncode, errors

    def close(self) -> None:
        """End everything and remove the run directory."""
        for job in self._jobs:
            if job.poll() is None:
                job.kill()
            job.communicate()
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
        shutil.rmtree(self.run)

    def ask(self, op: str, **more: object) -> dict[str, Any]:
        """Ask the control socket."""
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(self.run / "run" / "plant.sock"))
            with client.makefile("rw") as file:
                file.write(json.dumps({"op": op, **more}) + "\n")
                file.flush()
                answer: dict[str, Any] = json.loads(file.readline())
        return answer

    def truth(self) -> dict[str, Any]:
        """Return the truth."""
        found: dict[str, Any] = self.ask("truth")["truth"]
        return found

    def fault(self, target: str, fault: str, **more: object) -> None:
        """Throw a fault."""
        answer = self.ask("fault", target=target, fault=fault, **more)
        assert answer == {"ok": True}, answer

    def environment(self, node: str, slots: str) -> dict[str, str]:
        """Return what a job sees on a node."""
        return os.environ | {
            "SLURM_CONF": str(self.run / "etc" / "slurm.conf"),
            "SLURMD_NODENAME": node,
            "SLURM_JOB_ID": "7",
            "CUDA_VISIBLE_DEVICES": slots,
            "PLANT_NVML_STATE": "",
        }

    def job(self, node: str, slots: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a load program on some GPUs of a node."""
        job = subprocess.Popen(
            [sys.executable, "-m", "containers.plant.load", *arguments],
            cwd=ROOT,
            env=self.environment(node, slots),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._jobs.append(job)
        return job

    def cap(self, node: str, slots: Sequence[int], watts: int) -> None:
        """Set power limits with NVIDIA's own Python binding, in a process of its own."""
        program = (
            "import pynvml, sys; pynvml.nvmlInit()\n"
            "for slot in sys.argv[2:]:\n"
            "    handle = pynvml.nvmlDeviceGetHandleByIndex(int(slot))\n"
            "    pynvml.nvmlDeviceSetPowerManagementLimit(handle, int(sys.argv[1]) * 1000)\n"
        )
        subprocess.run(
            [sys.executable, "-c", program, str(watts), *map(str, slots)],
            env=os.environ
            | {
                "LD_LIBRARY_PATH": str(self.run / "lib"),
                "PLANT_NVML_STATE": str(self.run / "nvml" / f"{node}.state"),
            },
            check=True,
            timeout=20,
        )

    def snmp(
        self, program: str, rack: str, *arguments: str, value: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """Run one of net-snmp's programs against a PDU; the last argument is the OID."""
        *options, oid = arguments
        address = f"127.0.0.1:{self.pdu_ports[rack]}"
        return subprocess.run(
            [program, *options, "-t", "1", "-r", "0", "-On", address, oid, *value],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def pdu_value(self, rack: str, oid: str) -> int:
        """Read one integer of a PDU by v2c."""
        result = self.snmp("snmpget", rack, "-v2c", "-c", SNMP["community"], "-Oqv", oid)
        assert result.returncode == 0, result.stderr
        return int(result.stdout)


def _changed(text: str, constants: dict[str, float]) -> str:
    """Return plant.toml with some values replaced, named as in ``pcs__rated_watts``."""
    for name, value in constants.items():
        head = f"[{name.replace('__', '.')}]\n"
        before, after = text.split(head)
        text = f"{before}{head}value = {value}\n{after.partition(chr(10))[2]}"
    return text
