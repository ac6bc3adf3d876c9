"""How many GPUs a pending job asks for, in Slurm's own words, and the words that make it another number."""

import re
from collections.abc import Mapping

from slurm_power.ports import SchedulerError

# scontrol's name of each by squeue's. GPUs for each task or socket: Slurm refuses to change those (22.05).
CHANGED_AS = {"tres-per-job": "TresPerJob", "tres-per-node": "TresPerNode"}
ASKED_AS = (*CHANGED_AS, "tres-per-socket", "tres-per-task")
# As squeue writes it: gres:gpu:2, gres/gpu:h100=2 and what lies between.
_GPUS = re.compile(r"(?P<name>(?:gres[:/])?gpu(?:[:/](?!\d+$)[^:=,]+)?)[:=](?P<count>\d+)")


def changed_request(asked: Mapping[str, str], *, node_count: int, gpu_count: int) -> dict[str, str]:
    """The words for ``scontrol update`` that give a job ``gpu_count`` GPUs in all; none where it has them.

    ``asked`` is its request by squeue's names (`ASKED_AS`). A job keeps its nodes: one that asked for tasks
    would need them, whatever else is written. Raises SchedulerError where that many GPUs cannot be divided
    among them, its request is of a kind that cannot be changed, or is for fewer already.
    """
    found = {key: text for key in ASKED_AS if "gpu" in (text := asked.get(key, ""))}
    if gpu_count < 1 or len(found) != 1:
        raise SchedulerError("it does not ask for GPUs in one way alone, so their number is left alone")
    ((key, text),) = found.items()
    if key not in CHANGED_AS:
        raise SchedulerError(f"it asks for GPUs by {key.removeprefix('tres-per-')}, which cannot be changed")
    parts = text.split(",")
    places = [place for place, part in enumerate(parts) if "gpu" in part]
    match = _GPUS.fullmatch(parts[places[0]])
    if len(places) != 1 or match is None:
        raise SchedulerError(f"it asks for GPUs as {text}, which is not understood")
    nodes = max(node_count, 1)
    asked_count = int(match["count"]) * (nodes if key == "tres-per-node" else 1)
    if gpu_count > asked_count:
        # Slurm would take any number, and let the job wait for ever for what no node has (22.05).
        raise SchedulerError(f"it asks for {asked_count} GPUs, and is given no more")
    if gpu_count < nodes or (key == "tres-per-node" and gpu_count % nodes):
        raise SchedulerError(f"{gpu_count} GPUs cannot be divided among its {nodes} nodes")
    each = gpu_count // nodes if key == "tres-per-node" else gpu_count
    if each == int(match["count"]):
        return {}
    separator = parts[places[0]][match.end("name")]
    parts[places[0]] = f"{match['name']}{separator}{each}"
    return {CHANGED_AS[key]: ",".join(parts)}
