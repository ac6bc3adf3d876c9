"""A lab whose Slurm has never heard of slurm-power: with a plant, and hooks and scripts of the site's own."""

import shutil
from pathlib import Path

from containers.cluster.lab import Lab
from containers.cluster.layout import CHECKOUT

OURS = ("prolog", "epilog", "slurm_power_spank.so", "slurm-power.conf", "node.toml", "site.toml")
SITE_LUA = """\
function slurm_job_submit(job_desc, part_list, submit_uid)
  if job_desc.name == "refused" then
    slurm.log_user("the site refuses this name")
    return slurm.ERROR
  end
  job_desc.comment = "seen by the site"
  return slurm.SUCCESS
end

function slurm_job_modify(job_desc, job_rec, part_list, modify_uid)
  return slurm.SUCCESS
end

return slurm.SUCCESS
"""


class Bare:
    """The lab, the files of its Slurm as they were, and slurm-power's commands inside it."""

    def __init__(self, lab: Lab, *, own_hooks: bool) -> None:
        self.lab = lab
        self.run = lab.run_directory
        self.etc = lab.layout.etc
        self.folder = self.run / "review"
        self.site_toml = (self.etc / "site.toml").read_text()
        self._strip(own_hooks=own_hooks)
        self.before = self.files()

    def _strip(self, *, own_hooks: bool) -> None:
        """Take out what the lab comes with, and give it what a site may have had before."""
        for name in self.lab.daemon_names:
            if name.startswith("power"):
                self.lab.stop(name)
        conf = self.lab.layout.slurm_conf
        ours = (
            "Licenses=",
            "Prolog=",
            "Epilog=",
            "PrologSlurmctld=",
            "EpilogSlurmctld=",
            "JobSubmitPlugins=",
            "PrologFlags=",
        )
        lines = [line for line in conf.read_text().splitlines() if not line.startswith(ours)]
        lines = [line.replace("MaxTime=INFINITE", "MaxTime=INFINITE DefaultTime=10") for line in lines]
        for name in OURS:
            (self.etc / name).unlink(missing_ok=True)
        for file in (*self.etc.glob("*.lua"), *self.etc.glob("*_slurmctld")):
            file.unlink()
        shutil.rmtree(self.etc / "tls")
        (self.etc / "plugstack.conf").write_text("")
        if own_hooks:
            lines += self._own_hooks()
        # The last line has no end, as in a file that somebody has edited by hand.
        conf.write_text("\n".join(lines))
        self.restart_slurm()

    def _own_hooks(self) -> list[str]:
        own = self.run / "own"
        (own / "epilog.d").mkdir(parents=True)
        seen = self.run / "seen"
        seen.mkdir(mode=0o777)
        seen.chmod(0o777)
        for name, target in (("prolog", own / "prolog"), ("epilog", own / "epilog.d" / "10-own")):
            target.write_text(f'#!/bin/sh\necho "$SLURM_JOB_ID" >> {seen}/{name}\n')
            target.chmod(0o755)
        (self.etc / "job_submit.lua").write_text(SITE_LUA)
        return [
            f"Prolog = {own}/prolog   # the site's own",
            f"epilog={own}/epilog.d/*",
            "JobSubmitPlugins=lua",
        ]

    def restart_slurm(self) -> None:
        """What `systemctl restart slurmctld` and `scontrol reconfigure` do."""
        self.lab.restart("slurmctld")
        nodes = len(self.lab.layout.nodes)
        self.lab.run(["scontrol", "reconfigure"])
        self.lab.wait_until(lambda: self.lab.idle_nodes() == nodes, "idle nodes", seconds=30)

    def files(self) -> dict[str, tuple[int, bytes]]:
        """Everything in the configuration folder, by name: mode and content."""
        return {
            str(file.relative_to(self.etc)): (file.stat().st_mode, file.read_bytes())
            for file in sorted(self.etc.rglob("*"))
            if file.is_file()
        }

    def slurm_power(self, *words: str, check: bool = True, user: str = "root") -> tuple[int, str]:
        """Run the command inside the lab; returns exit status and all it said."""
        done = self.lab.run(
            ["slurm-power", *words], check=False, user=user, environment={"PYTHONPATH": str(CHECKOUT)}
        )
        assert not check or done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.returncode, done.stdout + done.stderr

    def init(self, *words: str, check: bool = True) -> tuple[int, str]:
        """`slurm-power init` with the lab's own places, which stand in for /etc/slurm-power and so on."""
        places = ["--config-directory", str(self.etc), "--run-directory", str(self.run / "run")]
        places += ["--state-directory", str(self.run / "state"), "--unit-directory", str(self.run / "units")]
        places += ["--port", str(self.lab.layout.ports["powerctld"])]
        return self.slurm_power("init", "--dir", str(self.folder), *places, *words, check=check)

    def fill_site_toml(self, file: Path | None = None, *, watch: bool = False) -> None:
        """Do what the draft's TODOs ask for: put in what is true of the lab; ``watch``: touch nothing yet."""
        file = file or Path(f"{self.folder}/root{self.etc}/site.toml")
        draft = file.read_text()
        head = draft[: draft.index("[circuit.")]
        circuits = self.site_toml[self.site_toml.index("[circuit.grid]") :]
        file.write_text((head if watch else head.replace("control = false\n", "")) + circuits)

    def start_daemons(self) -> None:
        """What the steps of the proposal's README do: the authority, then systemd's units."""
        self.slurm_power("ca", "init", "--directory", f"{self.etc}/tls", "--host", "127.0.0.1")
        shutil.copyfile(self.etc / "tls/ca.pem", self.etc / "ca.pem")
        for name in self.lab.daemon_names:
            if name.startswith("power"):
                self.lab.start(name)

    def stop_daemons(self) -> None:
        """What `systemctl disable --now` does."""
        for name in reversed(self.lab.daemon_names):
            if name.startswith("power"):
                self.lab.stop(name)

    def seen(self, name: str) -> list[str]:
        """The jobs that the site's own hook of this name has seen."""
        file = self.run / "seen" / name
        return file.read_text().split() if file.exists() else []
