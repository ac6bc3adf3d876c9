"""Whom an event of OpenADR 3.0 is for: its VTNs may show all events to every VEN."""

from collections.abc import Mapping
from typing import Any

from slurm_power.config.signals import OpenAdr3Signal


def is_for_us(event: Mapping[str, Any], signal: OpenAdr3Signal) -> bool:
    """Whether we are among an event's targets, or it names nobody that we could be.

    Targets of 3.1 are plain words, by which the VTN itself chooses what it shows.
    """
    listed = event.get("targets")
    named = False
    for one in listed if isinstance(listed, list) else []:
        if not isinstance(one, Mapping) or not isinstance(one.get("values"), list):
            continue
        match one.get("type"):
            case "VEN_NAME":
                ours: tuple[str, ...] = (signal.ven_name,)
            case "RESOURCE_NAME":
                ours = (signal.resource_name,)
            case "PROGRAM_NAME" | "EVENT_NAME":
                continue
            case _:
                # Groups and places: without any in site.toml nobody knows which are ours.
                if not signal.targets:
                    continue
                ours = signal.targets
        named = True
        if any(name in one["values"] for name in ours):
            return True
    return not named
