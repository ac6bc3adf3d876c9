"""A lab with our plugin, whose hooks write down what they find, and what the scenarios ask of it."""

import re
import shutil
from pathlib import Path

from containers.cluster.lab import Lab
from tests.cluster.lab import await_job, output

HOOKS = {
    "prolog": "prolog_slurmd",
    "epilog": "epilog_slurmd",
    "prolog_slurmctld": "prolog_slurmctld",
    "epilog_slurmctld": "epilog_slurmctld",
}
SHOW = "env | grep ^SLURM_POWER_ | sort"


class Scenes:
    """One lab with our plugin, and hooks that write down their environment before they do their work."""

    def __init__(self, lab: Lab, witness: Path) -> None:
        self.lab = lab
        self.etc = lab.layout.etc
        self.plugin = self.etc / "slurm_power_spank.so"
        self.witness = witness
        self.log = lab.run_directory / "log" / "witness"
        kept = self.etc / "hooks"
        kept.mkdir()
        shutil.copy(self.etc / "slurm-power.conf", kept)
        for name in HOOKS:
            (self.etc / name).rename(kept / name)
            wrapper = self.etc / name
            record = f"{lab.run_directory}/log/$SLURM_SCRIPT_CONTEXT.$SLURM_JOB_ID"
            lines = ["#!/bin/sh", f"/usr/bin/env > {record}.new", f"/usr/bin/mv {record}.new {record}"]
            wrapper.write_text("\n".join([*lines, f"exec {kept}/{name}", ""]))
            wrapper.chmod(0o755)

    def plugstack(self, *lines: str) -> None:
        """Have Slurm load these plugins, from the next command and the next step on."""
        (self.etc / "plugstack.conf").write_text("".join(f"{line}\n" for line in lines))

    def ours(self, *arguments: str) -> str:
        """The line of our plugin."""
        return " ".join(["optional", str(self.plugin), *arguments])

    def other(self, *arguments: str) -> str:
        """The line of the witness, which writes to an empty log."""
        self.log.write_text("")
        self.log.chmod(0o666)
        return " ".join(["optional", str(self.witness), f"log={self.log}", *arguments])

    def sbatch(self, *arguments: str, **environment: str) -> str:
        """Submit as alice; returns the job's number."""
        words = ["sbatch", "--parsable", "--time=5", "--output=%j.out", *arguments]
        return self.lab.run(words, user="alice", environment=environment).stdout.strip()

    def batch(self, *arguments: str, **environment: str) -> dict[str, str]:
        """Run a job that shows its environment; our variables in it, by what follows SLURM_POWER_."""
        job = self.sbatch(*arguments, f"--wrap={SHOW}", **environment)
        await_job(self.lab, job)
        return variables(output(self.lab, job))

    def in_hook(self, hook: str, job: str) -> dict[str, str]:
        """What SPANK put into a hook's environment for us, once the hook has run."""
        record = self.lab.run_directory / "log" / f"{HOOKS[hook]}.{job}"
        self.lab.wait_until(record.exists, f"{hook} of job {job}", seconds=20.0)
        return variables(record.read_text(), "SPANK_POWER_")

    def undrained(self) -> bool:
        """Whether every node may be used."""
        return "drain" not in self.lab.run(["sinfo", "--noheader", "--format=%T"]).stdout


def variables(text: str, prefix: str = "SLURM_POWER_") -> dict[str, str]:
    """Lines of name=value, those with the prefix, without it."""
    return dict(re.findall(rf"^{prefix}(\w+)=(.*)$", text, re.MULTILINE))


def read(file: Path) -> str:
    return file.read_text() if file.exists() else ""
