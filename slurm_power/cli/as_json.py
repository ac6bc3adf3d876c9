"""psbatch's answers as JSON: one object on one line, whatever bytes are in it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from slurm_power.cli.choices import Chosen
    from slurm_power.cli.slurms_word import SlurmsWord


def object_line(values: dict[str, Any]) -> str:
    """An object as a line."""
    return json.dumps(values, allow_nan=False) + "\n"


def text(word: str) -> str:
    r"""A word as JSON can carry it: a byte that is no UTF-8 becomes ``\xff``."""
    return os.fsencode(word).decode("utf-8", "backslashreplace")


def values(chosen: Chosen) -> dict[str, Any]:
    """The chosen words, by option, each with where it was said."""
    return {option: {"value": said.meant, "from": text(said.where)} for option, said in chosen.said.items()}


def warnings(chosen: Chosen) -> list[str]:
    """What was said on stderr and stopped nothing."""
    return [text(warning) for warning in chosen.warnings]


def slurms_word(word: SlurmsWord) -> dict[str, Any]:
    """What sbatch --test-only says; ``starts_at`` is local time, null where Slurm does not say."""
    return {"exit_status": word.status, "text": word.text, "starts_at": word.starts_at}
