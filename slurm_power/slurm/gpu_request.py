"""How many GPUs a pending job asks for, in Slurm's own words, and the words that make it another number."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from slurm_power.ports import SchedulerError
from slurm_power.slurm.licences import licence_counts, with_count

# scontrol's name of each by squeue's. GPUs for each task or socket: Slurm refuses to change those (22.05).
CHANGED_AS = {"tres-per-job": "TresPerJob", "tres-per-node": "TresPerNode"}
ASKED_AS = (*CHANGED_AS, "tres-per-socket", "tres-per-task")
# squeue's name of a job's licences.
LICENCES = "Licenses"
# As squeue writes it: gres:gpu:2, gres/gpu:h100=2 and what lies between.
_GPUS = re.compile(r"(?P<name>(?:gres[:/])?gpu(?:[:/](?!\d+$)[^:=,]+)?)[:=](?P<count>\d+)")


def changed_request(asked: Mapping[str, str], *, node_count: int, gpu_count: int) -> dict[str, str]:
    """The words for ``scontrol update`` that give a job ``gpu_count`` GPUs in all; none where it has them.

    ``asked`` is its request by squeue's names (`ASKED_AS`). A job keeps its nodes: one that asked for tasks
    would need them, whatever else is written. Raises SchedulerError where that many GPUs cannot be divided
    among them, its request is of a kind that cannot be changed, or is for fewer already.
    """
    if gpu_count < 1:
        raise SchedulerError("it is given no GPU at all")
    one = _request(asked)
    nodes = max(node_count, 1)
    asked_count = asked_gpu_count(asked, node_count=node_count)
    if gpu_count > asked_count:
        # Slurm would take any number, and let the job wait for ever for what no node has (22.05).
        raise SchedulerError(f"it asks for {asked_count} GPUs, and is given no more")
    if gpu_count < nodes or (one.by_node and gpu_count % nodes):
        raise SchedulerError(f"{gpu_count} GPUs cannot be divided among its {nodes} nodes")
    each = gpu_count // nodes if one.by_node else gpu_count
    return {} if each == one.count else {CHANGED_AS[one.key]: one.words(each)}


def asked_gpu_count(asked: Mapping[str, str], *, node_count: int) -> int:
    """How many GPUs a job asks for in all; raises SchedulerError as `changed_request`."""
    one = _request(asked)
    return one.count * (max(node_count, 1) if one.by_node else 1)


def changed_watts(licences: str, name: str, *, before: int, after: int) -> dict[str, str]:
    """The word that gives a job fewer of the licence ``name`` with fewer GPUs; none where it has none.

    What it asked for when it was submitted would keep it waiting for power that it no longer needs.
    """
    count = licence_counts(licences).get(name, 0)
    if not count or after >= before:
        return {}
    text = with_count(licences, name, math.ceil(count * after / before))
    return {} if text is None else {"Licenses": text}


@dataclass(frozen=True, slots=True)
class _Request:
    key: str
    before: str
    count: int
    behind: str

    @property
    def by_node(self) -> bool:
        return self.key == "tres-per-node"

    def words(self, count: int) -> str:
        return f"{self.before}{count}{self.behind}"


def _request(asked: Mapping[str, str]) -> _Request:
    """The one place that says how many GPUs; raises SchedulerError."""
    found = {key: text for key in ASKED_AS if "gpu" in (text := asked.get(key, ""))}
    if len(found) != 1:
        raise SchedulerError("it does not ask for GPUs in one way alone, so their number is left alone")
    ((key, text),) = found.items()
    if key not in CHANGED_AS:
        raise SchedulerError(f"it asks for GPUs by {key.removeprefix('tres-per-')}, which cannot be changed")
    parts = text.split(",")
    places = [place for place, part in enumerate(parts) if "gpu" in part]
    match = _GPUS.fullmatch(parts[places[0]])
    if len(places) != 1 or match is None:
        raise SchedulerError(f"it asks for GPUs as {text}, which is not understood")
    place, digits = places[0], len(match["count"])
    before = ",".join([*parts[:place], parts[place][:-digits]])
    behind = ",".join(["", *parts[place + 1 :]])
    return _Request(key=key, before=before, count=int(match["count"]), behind=behind)
