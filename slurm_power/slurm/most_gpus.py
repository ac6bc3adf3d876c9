"""The most GPUs that one job can get from Slurm: those of its largest partition."""

from collections import Counter

from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.parse import gpus_of_tres


async def most_gpus(commands: CommandRunner) -> int:
    """Ask sinfo; raises SchedulerError when Slurm does not answer."""
    return most_gpus_of(await commands.run("sinfo", "--noheader", "--Node", "--format=%R|%G"))


def most_gpus_of(text: str) -> int:
    """Read lines of ``PARTITION|GRES``, one for each node of each partition; a job is within one."""
    counted: Counter[str] = Counter()
    for line in text.splitlines():
        partition, bar, gres = line.partition("|")
        if bar:
            counted[partition.strip()] += gpus_of_tres(gres.strip())[0]
    return max(counted.values(), default=0)
