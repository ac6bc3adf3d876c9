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

    ``asked`` is its request by squeue's names (`ASKED_AS`). A job that asks by node comes on as many of its
    nodes as divide the GPUs. Raises SchedulerError where its request is of a kind that cannot be changed, or
    is for fewer GPUs already.
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
    asked_count = int(match["count"]) * (max(node_count, 1) if key == "tres-per-node" else 1)
    if gpu_count > asked_count:
        # Slurm would take any number, and let the job wait for ever for what no node has (22.05).
        raise SchedulerError(f"it asks for {asked_count} GPUs, and is given no more")
    nodes = 1
    if key == "tres-per-node":
        nodes = next(count for count in range(max(node_count, 1), 0, -1) if gpu_count % count == 0)
    each = gpu_count // nodes
    fewer_nodes = key == "tres-per-node" and nodes != node_count
    if each == int(match["count"]) and not fewer_nodes:
        return {}
    separator = parts[places[0]][match.end("name")]
    parts[places[0]] = f"{match['name']}{separator}{each}"
    words = {CHANGED_AS[key]: ",".join(parts)}
    return {**words, "NumNodes": str(nodes)} if fewer_nodes else words
