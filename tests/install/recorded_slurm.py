"""A Slurm as recorded from a real one, with slurm-power installed in it as `init` proposes, to be spoiled."""

from dataclasses import replace
from pathlib import Path

from slurm_power.slurm.found import Found, FoundFile
from slurm_power.slurm.inspect import config_of, nodes_of, partitions_of
from slurm_power.slurm.places import Places
from slurm_power.slurm.proposal import propose
from slurm_power.slurm.shipped import HOOKS, shipped

RECORDED = Path(__file__).parent / "recorded"
VERSIONS = sorted(folder.name for folder in RECORDED.iterdir())
SHIP = shipped()
PLUGIN = "/run/lab/etc/slurm-power/slurm_power.so"
PLACES = Places(slurm_directory="/run/lab/etc", controller_host="127.0.0.1", programs="/opt/slurm-power/bin")


def recorded(version: str) -> Found:
    """The Slurm as it was, with a partition that has a default time; its files are empty ones."""
    folder = RECORDED / version
    settings = config_of((folder / "config.txt").read_text())
    conf = settings["slurm_conf"]
    partitions = partitions_of((folder / "partitions.txt").read_text())
    hook_files = {
        setting: (settings[setting.lower()],) if setting.lower() in settings else () for setting in HOOKS
    }
    files = {conf: FoundFile(path=conf, text="ClusterName=lab\nSlurmctldHost=host\n", mode=0o100644)}
    for path in (*(path for paths in hook_files.values() for path in paths),):
        files[path] = FoundFile(path=path, text="#!/bin/sh\n", mode=0o100755)
    return Found(
        slurm_conf=conf,
        version=settings["slurm_version"],
        settings=settings,
        nodes=nodes_of((folder / "nodes.txt").read_text()),
        partitions=tuple(replace(partition, default_seconds=600.0) for partition in partitions),
        licenses={},
        reservations=(),
        files=files,
        hook_files=hook_files,
    )


def installed(version: str) -> Found:
    """The same after what `init` proposes has been put in place and Slurm has taken it up."""
    before = recorded(version)
    proposal = propose(before, PLACES, SHIP, b"the plugin")
    files = dict(before.files)
    for file in proposal.files:
        text = file.content.decode(errors="surrogateescape")
        files[file.path] = FoundFile(path=file.path, text=text, mode=0o100000 | file.mode)
    hooks = SHIP.wanted_hooks(with_plugin=True)
    named = {setting: f"{PLACES.hooks_directory}/{HOOKS[setting]}" for setting in hooks}
    settings = {**before.settings, **{setting.lower(): path for setting, path in named.items()}}
    settings |= {"prologflags": "Alloc", "jobsubmitplugins": "lua"}
    hook_files = {**before.hook_files, **{setting: (path,) for setting, path in named.items()}}
    return replace(before, files=files, settings=settings, hook_files=hook_files)


def with_setting(found: Found, key: str, value: str | None) -> Found:
    """With another value in slurmctld, None for not set."""
    settings = {name: text for name, text in found.settings.items() if name != key.lower()}
    if value is not None:
        settings[key.lower()] = value
    return replace(found, settings=settings)


def with_file(found: Found, path: str, **changes: object) -> Found:
    """With a file that differs; ``text=None`` for one that is not there."""
    file = found.files.get(path, FoundFile(path=path))
    return replace(found, files={**found.files, path: replace(file, **changes)})  # type: ignore[arg-type]  # fields
