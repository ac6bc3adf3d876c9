"""``key=value`` files, read without a parser by hooks, psbatch and the plugin: slurm-power.conf and such."""

from __future__ import annotations

import os

DEFAULT_SLURM_POWER_CONF = "/etc/slurm/slurm-power.conf"
MAX_FILE_BYTES = 65536


def slurm_power_conf() -> str:
    """Path of slurm-power.conf: where SLURM_POWER_CONF says, else beside slurm.conf, else in /etc/slurm."""
    named = os.environ.get("SLURM_POWER_CONF")
    if named:
        return named
    slurm_conf = os.environ.get("SLURM_CONF")
    if slurm_conf:
        directory, _, _ = slurm_conf.rpartition("/")
        return f"{directory}/slurm-power.conf" if directory else "slurm-power.conf"
    return DEFAULT_SLURM_POWER_CONF


def read_plain(path: str, warnings: list[str] | None = None) -> dict[str, str]:
    """Return the keys and values of a file, empty if it cannot be read; ``#`` starts a comment line.

    ``warnings`` is told of a file that is there and cannot be read.
    """
    values = {}
    for line in read_head(path, warnings).decode("utf-8", "replace").splitlines():
        key, separator, value = line.partition("=")
        if separator and not key.lstrip().startswith("#"):
            values[key.strip()] = value.strip()
    return values


def read_head(path: str, warnings: list[str] | None = None) -> bytes:
    """Return the beginning of a regular file, empty if there is none: a pipe must keep what it holds."""
    try:
        if os.stat(path).st_mode & 0o170000 != 0o100000:  # noqa: PTH116 - pathlib costs psbatch 10 ms
            return b""
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except FileNotFoundError:
        return b""
    except (OSError, ValueError) as error:
        if warnings is not None:
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            warnings.append(f"ignoring {path}: {reason.lower()}")
        return b""
    try:
        return os.read(descriptor, MAX_FILE_BYTES)
    except OSError:
        return b""
    finally:
        os.close(descriptor)
