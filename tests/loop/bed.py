"""A lab with plant and daemons as these tests handle it: submit, look, kill, and put back in order."""

import json
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from containers.cluster.lab import Lab
from containers.cluster.layout import LabError
from containers.demo.stage import ask

POWER_OID = ".1.3.6.1.4.1.318.1.1.26.4.3.1.5.1"
PDU_STEP_WATTS = 10.0
OWN_CAP_WATTS = 700.0
ASK = """
import json, socket, sys
with socket.socket(socket.AF_UNIX) as connection:
    connection.connect(sys.argv[1])
    connection.sendall(json.dumps({"op": sys.argv[2]}).encode() + b"\\n")
    print(connection.makefile().readline())
"""
# One training on one node draws near 16 kW with the idle rest of the site: this leaves caps to be set.
TIGHT_WATTS = 12_500


class Bed:
    """A running lab with power. ``site_toml`` is the text it started with; ``tidy`` goes back to it."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.run = lab.run_directory
        self.site_file = lab.layout.etc / "site.toml"
        self.site_toml = self.site_file.read_text()

    # --- asking -----------------------------------------------------------------------------------------

    def plant(self, op: str, **words: Any) -> dict[str, Any]:
        return ask(self.run / "run" / "plant.sock", {"op": op, **words})

    def truth(self) -> dict[str, Any]:
        found: dict[str, Any] = self.plant("truth")["truth"]
        return found

    def status(self, user: str = "root") -> dict[str, Any]:
        """What `slurm-power status --json` says to a user."""
        done = self.lab.run(["slurm-power", "status", "--json"], user=user)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def glance(self) -> dict[str, Any]:
        """The same for root, without the half second that the command takes to start."""
        return ask(self.run / "run" / "powerctld.sock", {"op": "status"})

    def ledger(self, since_seconds: float, **words: Any) -> list[dict[str, Any]]:
        """Entries of the last seconds; fails if the chain is broken anywhere."""
        socket = self.run / "run" / "powerctld.sock"
        entries: list[dict[str, Any]] = []
        more = True
        while more:
            after = entries[-1]["sequence"] if entries else 0
            request = {"op": "ledger", "since_seconds": since_seconds, "after_sequence": after, **words}
            answer = ask(socket, request)
            assert answer["broken_at_sequence"] is None
            entries += answer["entries"]
            more = answer["more"]
        return entries

    def ask(self, op: str, **words: Any) -> dict[str, Any]:
        """Ask powerctld as root."""
        return ask(self.run / "run" / "powerctld.sock", {"op": op, **words})

    def ask_as(self, user: str, op: str) -> dict[str, Any]:
        """Ask powerctld as somebody else."""
        done = self.lab.run(["python3", "-c", ASK, str(self.run / "run" / "powerctld.sock"), op], user=user)
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def entries(self, kind: str, job: str | None = None, *, subject: str = "") -> list[dict[str, Any]]:
        """Ledger entries of a kind from the last minutes, of a job or a subject."""
        found = self.ledger(180.0, **({} if job is None else {"job_id": job}))
        return [row for row in found if row["kind"] == kind and row["subject"].startswith(subject)]

    def power_job(self, job: str) -> dict[str, Any]:
        """A job's row in the status, empty while it has none."""
        return next((row for row in self.glance()["jobs"] if row["job_id"] == job), {})

    def caps(self, node: str) -> list[float]:
        """The limits last written to a node's GPUs, by the plant's own word."""
        return [gpu["limit_requested_watts"] for gpu in self.truth()["nodes"][node]["gpus"]]

    def pdu_watts(self, rack: str) -> float:
        """Read a PDU with net-snmp, version 3."""
        snmp = self.lab.layout.snmp
        words = ["snmpget", "-v3", "-u", snmp["user"], "-l", "authPriv", "-a", "SHA-256", "-A"]
        words += [snmp["auth_key"], "-x", "AES", "-X", snmp["priv_key"], "-r1", "-t1", "-Oqv"]
        words += [f"127.0.0.1:{self.lab.layout.ports['pdu'][rack]}", POWER_OID]
        done = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True)
        return int(done.stdout) * PDU_STEP_WATTS

    def until(self, happened: Callable[[], Any], what: str, seconds: float) -> float:
        """Poll until something is true; returns the seconds it took, fails naming it and what was decided."""
        began = time.monotonic()
        try:
            self.lab.wait_until(lambda: bool(happened()), what, seconds=seconds)
        except (AssertionError, LabError):
            self._print_ledger()
            raise
        return time.monotonic() - began

    def _print_ledger(self) -> None:
        with suppress(Exception):  # powerctld may be what did not come
            for row in self.ledger(180.0):
                print(row["at"][11:23], row["kind"], row["subject"], row["reason"])

    # --- acting -----------------------------------------------------------------------------------------

    def submit(self, *options: str, user: str = "alice", seconds: int = 90, flex: str = "flex3") -> str:
        """Submit a training on all GPUs of c1, unless ``options`` say otherwise; returns its number."""
        load = f"srun plant-load --workload training --seconds {seconds}"
        words = ["psbatch", "--parsable", "--workload=training", f"--flex={flex}", "--nodes=1"]
        words += ["--ntasks-per-node=1", "--gres=gpu:8", "--nodelist=c1", "--time=10", "--output=%j.out"]
        return self.lab.run([*words, *options, f"--wrap={load}"], user=user).stdout.strip()

    def announce(
        self, limit_watts: int, seconds: int, *, reason: str = "the grid is short", in_seconds: int = 0
    ) -> str:
        """Lower the grid's limit as an operator does; returns the event's name."""
        words = ["slurm-power", "event", "grid", f"--limit-watts={limit_watts}", f"--for={seconds}s"]
        words += [f"--in={in_seconds}s"] if in_seconds else []
        done = self.lab.run([*words, f"--reason={reason}", "--json"])
        event: str = json.loads(done.stdout)["event_id"]
        return event

    def run_full(self, job: str, node: str = "c1") -> None:
        """Wait until a job draws its full power and the controller and the meter have seen it."""

        def full() -> bool:
            gpus = self.truth()["nodes"][node]["gpus"]
            row = self.power_job(job)
            return (
                all(gpu["instant_watts"] > 600.0 for gpu in gpus)
                and (row.get("gpu_watts") or 0.0) > 8 * 600.0
                and abs(self.grid_watts() - self.truth()["grid_import_watts"]) < 400.0
            )

        self.until(full, f"job {job} at full power", 20)

    def grid_watts(self) -> float:
        """The grid meter as powerctld last read it, 0 while it has no reading."""
        return float(self.glance()["circuits"][0]["watts"] or 0.0)

    def capped(self, node: str = "c1") -> bool:
        """All GPUs of a node run under a limit below their own."""
        return all(watts < OWN_CAP_WATTS for watts in self.caps(node))

    def free(self, node: str = "c1") -> bool:
        """All GPUs of a node have their own limit."""
        return all(watts == OWN_CAP_WATTS for watts in self.caps(node))

    def peak(self) -> tuple[str, str]:
        """A job that is capped, a battery that discharges, a job that is held; returns both jobs' numbers."""
        # With so little in the battery it can carry a part of the excess only.
        self.plant("set_soc", soc_ratio=0.20)
        capped = self.submit()
        self.run_full(capped)
        held = self.submit(user="bob")
        self.announce(TIGHT_WATTS, 300)
        self.until(self.capped, "caps", 5)
        self.until(lambda: self.truth()["ess"]["discharge_watts"] > 500.0, "a discharge", 5)
        self.until(lambda: self.power_job(held).get("hold_ends_in_seconds"), "a hold", 8)
        return capped, held

    def until_all_nodes_report(self) -> None:
        """Wait for every node's daemon to be connected again: after a restart each tries for seconds."""
        names = set(self.lab.layout.nodes)
        self.until(lambda: names <= {node["name"] for node in self.glance()["nodes"]}, "all nodes", 20)

    def configure(self, **values: float) -> None:
        """Put keys into the [controller] table and start powerctld anew."""
        lines = "".join(f"{key} = {value}\n" for key, value in values.items())
        self.site_file.write_text(self.site_toml.replace("[controller]\n", f"[controller]\n{lines}"))
        self.lab.restart("powerctld")

    def process_ids(self, node: str) -> list[int]:
        """Powerd of a node and its watchdog, as the host numbers them."""
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                words = (folder / "cmdline").read_bytes().decode().split("\0")
            except OSError:  # it has ended meanwhile
                continue
            state = str(self.run / "state" / f"powerd.{node}")
            of_daemon = f"{self.lab.layout.etc}/node.toml" in words and node in words
            if of_daemon or state in words:
                found.append(int(folder.name))
        return found

    def steps_alive(self) -> list[int]:
        """Processes of this lab's job steps, as the host numbers them."""
        found = []
        ours = Path(f"/proc/{self.lab.supervisor_pid}/ns/pid").readlink()
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                name = (folder / "comm").read_text().strip()
                if name in {"slurmstepd", "srun", "plant-load"} and (folder / "ns/pid").readlink() == ours:
                    found.append(int(folder.name))
            except OSError:  # it has ended meanwhile
                continue
        return found

    def settled(self) -> bool:
        """No lever is moved anywhere."""
        status, truth = self.glance(), self.truth()
        gpus = [gpu for node in truth["nodes"].values() for gpu in node["gpus"]]
        return (
            not status["leases"]
            and not status["events"]
            and not any(job["hold_ends_in_seconds"] for job in status["jobs"])
            and not truth["ess"]["enabled"]
            and all(gpu["limit_requested_watts"] == OWN_CAP_WATTS for gpu in gpus)
        )

    def tidy(self) -> None:
        """Bring the lab back to rest, whatever a test has left: daemons, configuration, jobs, plant."""
        changed = self.site_file.read_text() != self.site_toml
        self.site_file.write_text(self.site_toml)
        for name in self.lab.daemon_names:
            if not self.lab.is_running(name):
                self.lab.start(name)
            elif name == "powerctld" and changed:
                self.lab.restart(name)
        if self.glance()["paused_until"] is not None:
            self.lab.run(["slurm-power", "control", "resume"])
        self.plant("clear_faults")
        self.plant("base_load", watts=0)
        for event in self.glance()["events"]:
            self.lab.run(["slurm-power", "cancel-event", event["event_id"]])
        for record in self.glance()["yields"]:
            self.lab.run(["slurm-power", "yield", record["node"], "--end"])
        self.lab.run(["scancel", "--user=alice"])
        self.lab.run(["scancel", "--user=bob"])
        # A step whose job is cancelled while being launched may draw for seconds after Slurm has let go.
        self.until(lambda: not self.lab.run(["squeue", "--noheader"]).stdout.strip(), "no job", 20)
        self.until(lambda: not self.steps_alive(), "the end of all steps", 30)
        nodes = len(self.lab.layout.nodes)
        self.until(lambda: self.lab.idle_nodes() == nodes, "idle nodes", 20)
        self.until(self.settled, "a lab at rest", 20)
        self.plant("set_soc", soc_ratio=0.5)
