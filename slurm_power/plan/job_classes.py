"""Tens of thousands of waiting jobs as some two hundred classes: what a plan of hours can tell apart."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from slurm_power.model.day_plan import JobClass
from slurm_power.plan.job_table import FLEXES, PendingJobs
from slurm_power.plan.memo import LastFew
from slurm_power.plan.site_table import Numbers

# Upper bounds; what is longer or larger than the last is of the last class.
HOURS = (1, 2, 4, 8, 16, 24)
GPUS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)


@dataclass(frozen=True, slots=True)
class JobClasses:
    """``number``: the class of each waiting job; ``keys``: the classes by number, ``index`` the reverse."""

    number: Numbers
    keys: tuple[JobClass, ...]
    index: Mapping[JobClass, int]


_classes: LastFew[JobClasses] = LastFew(3)


def classes_of(jobs: PendingJobs) -> JobClasses:
    """The classes of a list of waiting jobs, only those that occur."""
    return _classes.of(lambda: _classes_of(jobs), jobs)


def _classes_of(jobs: PendingJobs) -> JobClasses:
    hours = np.searchsorted(HOURS, jobs.limit_seconds / 3600.0).clip(max=len(HOURS) - 1)
    gpus = np.searchsorted(GPUS, jobs.gpus * jobs.tasks).clip(max=len(GPUS) - 1)
    keys, number = np.unique((hours * len(GPUS) + gpus) * len(FLEXES) + jobs.flex, return_inverse=True)
    found = tuple(
        JobClass(
            hours=HOURS[key // len(FLEXES) // len(GPUS)],
            gpus=GPUS[key // len(FLEXES) % len(GPUS)],
            flex=FLEXES[key % len(FLEXES)],
        )
        for key in keys.tolist()
    )
    return JobClasses(number, found, {key: place for place, key in enumerate(found)})
