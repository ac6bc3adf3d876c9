"""``resources.yaml``: a hierarchical resource as Slurm's file, written whole and only when proven right.

Slurm reads YAML; JSON is YAML, so the body is JSON, a line a layer, with the circuits' names as comments.
What is written is first read back and compared: a file that Slurm cannot read ends a slurmctld that runs in
the foreground.
"""

import json
import os
import re
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from slurm_power.plan.hres import HresTree, Layer, broken_rules
from slurm_power.ports import SchedulerError
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.hostlist import compress, expand

FIRST_VERSION = (25, 11)
FILE_NAME = "resources.yaml"
# From 23.11 on a reconfiguration is a restart of slurmctld: not too often, even to start more jobs.
RAISE_SECONDS = 300.0
LOWER_SECONDS = 15.0
_HEAD = "# Watts at nodes, by circuit. Written by slurm-power hres from site.toml: change that instead.\n"
_COMMENT = "  # "
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,31}")
_NODE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def resource_problems(tree: HresTree, licences: Iterable[str] = ()) -> list[str]:
    """What Slurm would not take of the names, each with the fix."""
    found = []
    if _NAME.fullmatch(tree.resource) is None:
        found.append(f"{tree.resource!r} is no name of a resource; write letters, digits and _")
    if tree.resource in set(licences):
        found.append(f"{tree.resource}: Slurm has a licence of this name; choose another for the resource")
    nodes = tree.layers[0].nodes if tree.layers else frozenset()
    found += [f"{node!r}: no name of a node" for node in sorted(nodes) if _NODE.fullmatch(node) is None]
    return found


def hres_text(tree: HresTree) -> str:
    """The file's text; raises ValueError for a tree that Slurm would not bear or that does not read back."""
    problems = resource_problems(tree) + broken_rules(tree, tree.layers[0].nodes if tree.layers else ())
    if problems:
        raise ValueError("; ".join(problems))
    lines = []
    for place, layer in enumerate(tree.layers):
        comma = "," if place < len(tree.layers) - 1 else ""
        names = json.dumps(" + ".join(layer.circuits)) if layer.circuits else "no limit, for an even depth"
        lines.append(f"  {json.dumps(_layer_json(layer))}{comma}{_COMMENT}{names}\n")
    head = json.dumps({"resource": tree.resource, "mode": "MODE_3"})[:-1]
    text = f'{_HEAD}[{head}, "layers": [\n{"".join(lines)}]}}]\n'
    if parse_hres(text) != _bare(tree):
        raise ValueError("the text does not read back as the tree")
    return text


def _layer_json(layer: Layer) -> dict[str, Any]:
    found: dict[str, Any] = {
        "nodes": [compress(layer.nodes)],
        "count": -1 if layer.count is None else layer.count,
    }
    if layer.base:
        found["base"] = [{"name": name, "value": value} for name, value in layer.base.items()]
    return found


def _bare(
    tree: HresTree,
) -> tuple[str, tuple[tuple[frozenset[str], int | None, tuple[tuple[str, int], ...]], ...]]:
    """What of a tree stands in the file."""
    return tree.resource, tuple(
        (layer.nodes, layer.count, tuple(layer.base.items())) for layer in tree.layers
    )


def parse_hres(
    text: str,
) -> tuple[str, tuple[tuple[frozenset[str], int | None, tuple[tuple[str, int], ...]], ...]]:
    """Read a text of ours: the resource, and of each layer nodes, count (None: no limit) and base.

    Raises ValueError for any other text.
    """
    body = "\n".join(line.partition(_COMMENT)[0] for line in text.splitlines() if not line.startswith("#"))
    try:
        (resource,) = json.loads(body)
        if resource["mode"] != "MODE_3" or set(resource) != {"resource", "mode", "layers"}:
            raise ValueError("no resource of mode 3")
        layers = tuple(_parsed_layer(layer) for layer in resource["layers"])
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"is no resource of ours: {error}") from None
    return str(resource["resource"]), layers


def _parsed_layer(layer: Mapping[str, Any]) -> tuple[frozenset[str], int | None, tuple[tuple[str, int], ...]]:
    nodes = frozenset(name for part in layer["nodes"] for name in expand(part))
    count = int(layer["count"])
    base = tuple((str(one["name"]), int(one["value"])) for one in layer.get("base", ()))
    return nodes, None if count == -1 else count, base


class HresFile:
    """Keeps Slurm's file at present counts. ``update`` and ``reconfigure`` are called one after the other."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._changed_seconds = float("-inf")
        self._told = True

    def update(self, tree: HresTree, now_seconds: float) -> bool:
        """Write the counts where they differ and it is time; returns whether Slurm has to be told.

        Lower counts wait for a few seconds after the last change, higher ones for some minutes.
        ``now_seconds`` is of a clock that never goes back. Raises ValueError for a tree that Slurm would not
        bear, OSError.
        """
        text = hres_text(tree)
        before = self._read()
        if text != before:
            wait = LOWER_SECONDS if _lowers(before, tree) else RAISE_SECONDS
            if now_seconds - self._changed_seconds < wait:
                return not self._told
            write_whole(self._file, text)
            self._changed_seconds, self._told = now_seconds, False
        return not self._told

    async def reconfigure(self, commands: CommandRunner) -> None:
        """Let Slurm read the file; raises SchedulerError, and then ``update`` goes on to say that it must."""
        await commands.run("scontrol", "reconfigure")
        self._told = True

    def _read(self) -> str:
        try:
            return self._file.read_text(errors="replace")
        except FileNotFoundError:
            return ""


def _lowers(before: str, tree: HresTree) -> bool:
    """Whether some layer would have less than it has, or whatever stands there is not ours."""
    try:
        _resource, layers = parse_hres(before)
    except ValueError:
        return True
    had = {nodes: count for nodes, count, _base in layers}
    return any(
        layer.count is not None and ((count := had.get(layer.nodes)) is None or layer.count < count)
        for layer in tree.layers
    )


def write_whole(file: Path, text: str) -> None:
    """Put a text in a file's place, on disk before it is seen, readable for Slurm; raises OSError."""
    number, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.")
    fresh = Path(name)
    try:
        with os.fdopen(number, "w") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        fresh.chmod(0o644)
        fresh.replace(file)
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise


async def ask_slurm(commands: CommandRunner) -> tuple[tuple[int, int, int], tuple[str, ...], tuple[str, ...]]:
    """Slurm's version, its nodes and its plain licences; raises SchedulerError."""
    said = await commands.run("sinfo", "--version")
    version = re.search(r"(\d+)\.(\d+)\.(\d+)", said)
    if version is None:
        raise SchedulerError(f"sinfo --version said {said.strip()!r}, which holds no version")
    nodes = (await commands.run("sinfo", "--noheader", "--Node", "--all", "--format=%N")).split()
    shown = await commands.run("scontrol", "--oneliner", "show", "licenses")
    plain = re.findall(r"LicenseName=(\S+)(?!.* Mode=)", shown)
    return (int(version[1]), int(version[2]), int(version[3])), tuple(dict.fromkeys(nodes)), tuple(plain)
