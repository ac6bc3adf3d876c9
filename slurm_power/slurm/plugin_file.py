"""The SPANK plugin as a file: builds it for the Slurm that is here, reads for which one it was built."""

import struct
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

BUILD_SECONDS = 60.0
_SYMBOL = b"plugin_version"
_DYNSYM = 11


def build_plugin(sources: Sequence[Path], version: str) -> bytes | None:
    """Compile it; None where there is no compiler, or no headers of just this ``version`` of Slurm."""
    flags = ["-std=gnu11", "-O2", "-fPIC", "-shared", "-Wall", "-Wextra"]
    with tempfile.TemporaryDirectory(prefix="slurm-power-") as folder:
        target = Path(folder) / "slurm_power.so"
        argv = ["cc", *flags, "-o", str(target), *map(str, sources)]
        try:
            done = subprocess.run(argv, check=False, capture_output=True, timeout=BUILD_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if done.returncode != 0:
            return None
        built = target.read_bytes()
    return built if built_for(built) == _release(version) else None


def built_for(content: bytes) -> str | None:
    """Return the Slurm release a plugin was built for, as ``22.05``; None when that cannot be read.

    Slurm compares the number that its header wrote into ``plugin_version``, for SPANK year and month of it.
    """
    try:
        number = _symbol_value(content)
    except (struct.error, ValueError, IndexError):
        return None
    return None if number is None else f"{number >> 16}.{number >> 8 & 0xFF:02d}"


def _release(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _symbol_value(content: bytes) -> int | None:
    """Find a 4-byte variable of a 64-bit little-endian ELF file by its dynamic symbol."""
    if content[:6] != b"\x7fELF\x02\x01":
        return None
    table, size, count = struct.unpack_from("<Q", content, 0x28)[0], *struct.unpack_from("<HH", content, 0x3A)
    sections = [struct.unpack_from("<IIQQQQIIQQ", content, table + index * size) for index in range(count)]
    for _, kind, _, _, offset, length, link, _, _, entry in sections:
        if kind != _DYNSYM or entry == 0:
            continue
        names = sections[link][4]
        for place in range(offset, offset + length, entry):
            name, _, _, section, value, _ = struct.unpack_from("<IBBHQQ", content, place)
            end = content.index(b"\0", names + name)
            if content[names + name : end] == _SYMBOL and 0 < section < len(sections):
                _, _, _, address, start, *_ = sections[section]
                return int(struct.unpack_from("<I", content, start + value - address)[0])
    return None
