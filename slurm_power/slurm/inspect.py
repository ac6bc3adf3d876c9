"""Reads a running Slurm with ``scontrol``, and the files that it names; changes nothing."""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from glob import glob
from pathlib import Path

from slurm_power.ports import SchedulerError
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.conf_text import read_settings
from slurm_power.slurm.found import UNSET, Found, FoundFile, FoundNode, FoundPartition
from slurm_power.slurm.hostlist import expand
from slurm_power.slurm.ours import called_files, chained_patterns, plugins_of
from slurm_power.slurm.parse import gpus_of_tres, time_limit_seconds
from slurm_power.slurm.racks import racks_of
from slurm_power.slurm.shipped import HOOKS

_MOST_FILE_BYTES = 4_000_000


async def inspect(commands: CommandRunner, slurm_conf: Path | None) -> Found:
    """Ask slurmctld for everything, then read the files; raises SchedulerError when it does not answer."""
    settings = config_of(await commands.run("scontrol", "show", "config"))
    nodes = nodes_of(await commands.run("scontrol", "-o", "show", "nodes"))
    partitions = partitions_of(await commands.run("scontrol", "-o", "show", "partitions"))
    problems: list[str] = []

    async def asked(*words: str) -> str:
        """What may be missing: a version or a plugin that does not know it is no reason to stop."""
        try:
            return await commands.run(*words)
        except SchedulerError as error:
            problems.append(str(error))
            return ""

    licenses = licenses_of(await asked("scontrol", "-o", "show", "licenses"))
    reservations = re.findall(
        r"^ReservationName=(\S+)", await asked("scontrol", "-o", "show", "reservations"), re.MULTILINE
    )
    leaves = {}
    if settings.get("topologyplugin", "topology/none") not in {
        "topology/none",
        "topology/default",
        "topology/flat",
    }:
        leaves = leaves_of(await asked("scontrol", "show", "topology"))
    conf = str(slurm_conf or settings.get("slurm_conf", "/etc/slurm/slurm.conf"))
    hook_files = {
        setting: tuple(file for pattern in _patterns(settings, setting) for file in _matching(pattern, conf))
        for setting in HOOKS
    }
    return Found(
        slurm_conf=conf,
        version=settings.get("slurm_version", ""),
        settings=settings,
        nodes=nodes,
        partitions=partitions,
        licenses=licenses,
        reservations=tuple(reservations),
        files=_files(conf, settings, hook_files),
        hook_files=hook_files,
        racks=racks_of(nodes, leaves),
        problems=tuple(problems),
    )


def _files(
    conf: str, settings: Mapping[str, str], hook_files: Mapping[str, tuple[str, ...]]
) -> dict[str, FoundFile]:
    """Read every file that Slurm's settings lead to, scripts that scripts call included."""
    directory = conf.rpartition("/")[0]
    plugstack = settings.get("plugstackconfig", f"{directory}/plugstack.conf")
    texts = _with_includes(conf)
    texts[plugstack] = _read(plugstack)
    for path in (
        *plugins_of(texts[plugstack].text or ""),
        f"{directory}/job_submit.lua",
        f"{directory}/slurm-power.conf",
    ):
        texts.setdefault(path, _read(path))
    # What an earlier installation may have left, in use or not.
    for script in (*Path(directory).glob("slurm_power*.lua"), *Path(directory, "slurm-power").glob("*")):
        texts.setdefault(str(script), _read(str(script)))
    waiting = [path for files in hook_files.values() for path in files] + [f"{directory}/job_submit.lua"]
    for _depth in range(3):
        for path in waiting:
            texts.setdefault(path, _read(path))
        called = [texts[path].text or "" for path in waiting]
        waiting = [path for text in called for path in called_files(text)]
        waiting += [
            path for text in called for own in chained_patterns(text) for path in _matching(own, conf)
        ]
    return texts


def config_of(text: str) -> dict[str, str]:
    """Read ``scontrol show config``; keys in lower case, unset values left out."""
    found = {}
    for line in text.splitlines():
        key, equals, value = line.partition("=")
        if equals and value.strip().lower() not in UNSET:
            found[key.strip().lower()] = value.strip()
    return found


def nodes_of(text: str) -> tuple[FoundNode, ...]:
    """Read ``scontrol -o show nodes``."""
    found = []
    for line in text.splitlines():
        fields = _fields(line)
        if "NodeName" not in fields:
            continue
        count, kind = gpus_of_tres(fields.get("Gres", ""))
        address = f"{fields.get('NodeHostName', '')}/{fields.get('NodeAddr', '')}"
        found.append(
            FoundNode(
                name=fields["NodeName"],
                state=fields.get("State", ""),
                gpu_count=count,
                gpu_type=kind,
                version=_set(fields.get("Version", "")),
                address=address,
                features=tuple(_set(fields.get("AvailableFeatures", "")).split(",")),
                slurmd_start_epoch_seconds=_epoch(fields.get("SlurmdStartTime", "")),
            )
        )
    return tuple(found)


def partitions_of(text: str) -> tuple[FoundPartition, ...]:
    """Read ``scontrol -o show partitions``."""
    return tuple(
        FoundPartition(
            name=fields["PartitionName"],
            default_seconds=time_limit_seconds(fields.get("DefaultTime", "")),
            most_seconds=time_limit_seconds(fields.get("MaxTime", "")),
        )
        for fields in map(_fields, text.splitlines())
        if "PartitionName" in fields
    )


def licenses_of(text: str) -> dict[str, int]:
    """Read ``scontrol -o show licenses``: totals by name."""
    totals = re.findall(r"^LicenseName=(\S+) Total=(\d+)", text, re.MULTILINE)
    return {name: int(total) for name, total in totals}


def leaves_of(text: str) -> dict[str, tuple[str, ...]]:
    """Read ``scontrol show topology`` of a tree: the nodes of each switch at the lowest level."""
    found = re.findall(r"SwitchName=(\S+) Level=0 .*?Nodes=(\S+)", text)
    return {switch: expand(nodes) for switch, nodes in found}


def _fields(line: str) -> dict[str, str]:
    return dict(re.findall(r"(?:^|\s)([A-Z]\w*)=(\S*)", line))


def _set(value: str) -> str:
    return "" if value.lower() in UNSET else value


def _epoch(text: str) -> float | None:
    """Read a time; the commands run with TZ=UTC."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _patterns(settings: dict[str, str], setting: str) -> list[str]:
    """A hook's paths or globs: newer versions number them, as in ``Prolog[0]``."""
    keys = [key for key in settings if re.fullmatch(rf"{setting.lower()}(\[\d+\])?", key)]
    return [pattern for key in keys for pattern in settings[key].split(",")]


def _matching(pattern: str, conf: str) -> Iterable[str]:
    """The files of a glob; a path without a match stands for itself, so that it is told as missing."""
    path = pattern if pattern.startswith("/") else f"{conf.rpartition('/')[0]}/{pattern}"
    return sorted(glob(path)) or [path]  # noqa: PTH207  # the site's pattern is absolute; Path.glob takes none


def _with_includes(conf: str) -> dict[str, FoundFile]:
    found: dict[str, FoundFile] = {}
    waiting = [conf]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = _read(path)
        named = [
            setting.value for setting in read_settings(found[path].text or "") if setting.key == "Include"
        ]
        waiting += [name if name.startswith("/") else f"{conf.rpartition('/')[0]}/{name}" for name in named]
    return found


def _read(path: str) -> FoundFile:
    file = Path(path)
    try:
        status = file.stat()
        if not file.is_file() or status.st_size > _MOST_FILE_BYTES:
            return FoundFile(path=path, problem="is no plain file", mode=status.st_mode, uid=status.st_uid)
        text = file.read_bytes().decode(errors="surrogateescape")
    except OSError as error:
        return FoundFile(path=path, problem=error.strerror or str(error))
    return FoundFile(path=path, text=text, mode=status.st_mode, uid=status.st_uid)
