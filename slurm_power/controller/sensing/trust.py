"""Which batteries may be commanded: those commissioned as they are now, or that somebody answers for."""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from slurm_power.config import SiteConfig
from slurm_power.controller.sensing.probe import fingerprints
from slurm_power.controller.storage.commission import Findings

FILE_NAME = "commissioned.json"


def unproven(config: SiteConfig) -> dict[str, str]:
    """The batteries that may not be commanded, each with the reason and the way out."""
    found = {}
    for name, ess in config.site.ess.items():
        if ess.uncommissioned is None and not _commissioned(config, name):
            found[name] = (
                f"not commissioned: run slurm-power commission pcs {name}, or write down in site.toml who"
                f" answers for it ([ess.{name}] uncommissioned)"
            )
    return found


def note_trust(config: SiteConfig, note: Callable[[str, str, str, str], None]) -> None:
    """Write down what the use of each battery rests on; ``note`` takes actor, kind, subject and reason."""
    refused = unproven(config)
    for name, ess in config.site.ess.items():
        if name in refused:
            note("controller", "not commissioned", f"ess:{name}", refused[name])
        elif not _commissioned(config, name):
            note("controller", "uncommissioned", f"ess:{name}", f"used unproven: {ess.uncommissioned}")


def _commissioned(config: SiteConfig, name: str) -> bool:
    """Whether there is a record of the device exactly as it is configured now."""
    record = read_records(config.controller.state_directory).get(name, {})
    return record.get("device") == fingerprints(config).get(config.ess_devices[name])


def read_records(state_directory: Path) -> dict[str, dict[str, object]]:
    """All records by battery; a file that is missing or damaged holds none."""
    try:
        found = json.loads((state_directory / FILE_NAME).read_text())
    except (OSError, ValueError):
        return {}
    return (
        {name: record for name, record in found.items() if isinstance(record, dict)}
        if isinstance(found, dict)
        else {}
    )


def check_writable(config: SiteConfig) -> None:
    """Raise OSError if ``write_record`` could not store a result; leaves nothing behind but the directory."""
    directory = config.controller.state_directory
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    trial = directory / f"{FILE_NAME}.trial"
    trial.touch()
    trial.unlink()


def write_record(config: SiteConfig, name: str, findings: Findings, at: datetime, by: str) -> None:
    """Store what was proven of a battery; raises OSError, with nothing changed."""
    directory = config.controller.state_directory
    records: dict[str, Mapping[str, object]] = dict(read_records(directory))
    records[name] = {
        "device": fingerprints(config)[config.ess_devices[name]],
        "at": at.isoformat(),
        "by": by,
        "findings": asdict(findings),
    }
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = directory / f"{FILE_NAME}.new"
    with temporary.open("w") as stream:
        stream.write(json.dumps(records, indent=1) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(directory / FILE_NAME)
