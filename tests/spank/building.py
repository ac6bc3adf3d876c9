"""Building the plugin and its drivers: every warning is an error, and the drivers run under sanitizers."""

import subprocess
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
SOURCES = sorted((PROJECT / "spank").glob("*.c"))
WARNINGS = ["-std=gnu11", "-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
PLUGIN_FLAGS = [*WARNINGS, "-O2", "-fPIC", "-shared"]


def build_driver(target: Path, *sources: Path) -> Path:
    """Compile a driver under address and undefined-behaviour sanitizers."""
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-g"]
    subprocess.run(["cc", *WARNINGS, *sanitizers, "-o", str(target), *map(str, sources)], check=True)
    return target


def build_plugin(target: Path, *sources: Path) -> Path:
    """Compile the plugin, or another one, as a site does."""
    subprocess.run(["cc", *PLUGIN_FLAGS, "-o", str(target), *map(str, sources or SOURCES)], check=True)
    return target
