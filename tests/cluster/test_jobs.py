"""Jobs in a lab run as its users, on simulated GPUs, and survive what a real cluster survives."""

import signal

import pytest

from containers.cluster.lab import Lab
from tests.cluster.lab import LabFactory, await_job, output, submit

pytestmark = pytest.mark.slurm


def test_two_node_gpu_job(lab: Lab) -> None:
    shows = "$SLURMD_NODENAME $(id -un) $CUDA_VISIBLE_DEVICES $LD_LIBRARY_PATH $PLANT_NVML_STATE"
    script = f"srun sh -c 'echo {shows}'"
    job = submit(lab, script, "--nodes=2", "--gres=gpu:2", "--nodelist=c1,c3")
    await_job(lab, job)
    run = lab.run_directory
    assert sorted(output(lab, job).splitlines()) == [
        f"c1 alice 0,1 {run}/lib {run}/nvml/c1.state",
        f"c3 alice 0,1 {run}/lib {run}/nvml/c3.state",
    ]


def test_gpus_are_allocated_exclusively(lab: Lab) -> None:
    jobs = [
        submit(lab, "echo $CUDA_VISIBLE_DEVICES; sleep 300", "--gres=gpu:4", "--nodelist=c2", user=user)
        for user in ("alice", "bob")
    ]
    waiting = submit(lab, "true", "--gres=gpu:1", "--nodelist=c2")
    for job in jobs:
        await_job(lab, job, "RUNNING")
    texts = [(jobs[0], "alice"), (jobs[1], "bob")]
    lab.wait_until(lambda: all(output(lab, *text) for text in texts), "the jobs' output", seconds=10)
    gpus = ",".join(output(lab, *text).strip() for text in texts).split(",")
    assert sorted(gpus) == list("01234567")
    assert lab.job(waiting)["JobState"] == "PENDING"
    lab.run(["scancel", *jobs])
    await_job(lab, waiting)


def test_slurmctld_killed_and_restarted(fresh_lab: LabFactory) -> None:
    lab = fresh_lab(nodes=1)
    await_job(lab, submit(lab, "true"))
    lab.kill("slurmctld")
    assert lab.status()["slurmctld"]["status"] == -signal.SIGKILL
    lab.start("slurmctld")
    await_job(lab, submit(lab, "true", user="bob"))


def test_accounting(fresh_lab: LabFactory) -> None:
    lab = fresh_lab(nodes=2, accounting=True)
    job = submit(lab, "true", "--qos=flexible", "--gres=gpu:1", user="bob")
    await_job(lab, job)
    wanted = f"{job}|bob|chemistry|flexible|COMPLETED"

    def recorded() -> bool:
        fields = "--format=jobid,user,account,qos,state"
        return wanted in lab.run(["sacct", "-a", "-X", "-n", "-P", fields]).stdout.splitlines()

    lab.wait_until(recorded, "the job in sacct", seconds=20)
    refused = lab.run(["sbatch", "--account=physics", "--wrap=true"], user="bob", check=False)
    assert refused.returncode != 0  # bob is in another account
