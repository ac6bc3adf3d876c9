"""The file from which job_submit.lua takes what to expect of jobs: its form, and how it is written.

Plain lines, tab between their words. The first carries a stamp, which changes with the file; then settings up
to an empty line; then what was learned, sorted by bytes, so that it can be searched without being read in.
docs/admission.md has the whole form.
"""

import os
import zlib
from collections.abc import Iterable, Mapping
from pathlib import Path

from slurm_power.forecast.job_power import LearnedLevel

FORM = "slurm-power-expected-watts 1"
# Some 80,000 entries: what is looked up must fit into the cache of a disk.
_MOST_BYTES = 3_500_000
_LONGEST_LINE = 400


def file_text(
    settings: Mapping[str, str | int | float],
    class_watts: Mapping[str, float],
    learned: Iterable[LearnedLevel],
) -> str:
    """The whole file; ``learned`` with the latest last, of which the earliest go where there are too many."""
    head = [f"{key}\t{_word(value)}" for key, value in settings.items()]
    head += [f"class\t{name}\t{watts:.0f}" for name, watts in class_watts.items()]
    lines, size = [], 0
    for level in reversed(list(learned)):
        line = "\t".join([level.kind, *level.words, f"{max(0.0, level.watts):.0f}"])
        if len(line) > _LONGEST_LINE or not all(_plain(word) for word in level.words):
            continue
        size += len(line) + 1
        if size > _MOST_BYTES:
            break
        lines.append(line)
    body = "\n".join([*head, "", *sorted(lines), ""])
    return f"{FORM} {zlib.crc32(body.encode()):08x}.{len(body)}\n{body}"


def _word(value: str | float) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _plain(word: str) -> bool:
    return word.isascii() and word.isprintable()


def write_file(file: Path, text: str) -> bool:
    """Write the file at once or not at all; False where it was so already. Raises OSError.

    Everybody may read it: what jobs of a name draw is seen by whoever watches a node.
    """
    try:
        if file.read_text() == text:
            return False
    except (OSError, UnicodeDecodeError):
        pass  # written anew
    if not file.parent.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.parent.chmod(0o755)  # whatever the umask: slurmctld runs as somebody else
    fresh = file.with_name(f".{file.name}.new")
    with fresh.open("w") as stream:
        stream.write(text)
        stream.flush()
        os.fchmod(stream.fileno(), 0o644)
        os.fsync(stream.fileno())
    fresh.replace(file)
    return True
