"""A lab in which nothing moves by itself, so that what is seen was caused by what was done."""

import re
from pathlib import Path


def steady_plant(source: Path, target: Path) -> Path:
    """Copy the plant's constants, with a training that starts at once and draws evenly."""
    text = source.read_text()
    steady = {"low_demand_ratio": 0.942, "startup_seconds": 0.2, "pause_seconds": 0.0}
    for name, value in steady.items():
        text, count = re.subn(rf"(?m)^(\[training\.{name}\]\nvalue = ).*$", rf"\g<1>{value}", text)
        assert count == 1
    target.write_text(text)
    return target


def without_recharging(site_toml: str) -> str:
    """A site whose battery's target lies at its reserve: an empty battery that recharges moves the meter."""
    text, count = re.subn("(?m)^target_soc_ratio = .*$", "target_soc_ratio = 0.1001", site_toml)
    assert count == 1
    return text
