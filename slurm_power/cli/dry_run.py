"""``psbatch --dry-run`` and ``--print-script``: what would be submitted. Read only when asked for."""

from __future__ import annotations

import os
import shlex
from typing import TYPE_CHECKING

from slurm_power.cli import as_json
from slurm_power.cli.choices import is_body
from slurm_power.cli.option_forms import OPTIONS
from slurm_power.cli.sbatch_options import sbatch_name
from slurm_power.cli.sbatch_process import complain, say, say_bytes
from slurm_power.cli.slurms_word import SlurmsWord, slurms_word

if TYPE_CHECKING:
    from slurm_power.cli.submission import Request

EXIT_CANNOT_SAY = 1
_WRAPPED = b"#!/bin/sh\n# This script was created by sbatch by way of --wrap.\n\n"
_PIECE_BYTES = 65_536


def show(request: Request) -> int:
    """Print how sbatch would be started and what it says to that; the exit status is that of --test-only."""
    word = slurms_word(request.sbatch_arguments)
    if "json" in request.line.asked:
        say(_object(request, word))
    else:
        say("\n".join(_lines(request, word)) + "\n")
    return EXIT_CANNOT_SAY if word.status is None else word.status


def _lines(request: Request, word: SlurmsWord) -> list[str]:
    lines = [f"sbatch would be started as:  {shlex.join(['sbatch', *request.sbatch_arguments])}"]
    rows = [
        (f"{OPTIONS[option].variable}={one.meant}", one.where) for option, one in request.chosen.said.items()
    ]
    if request.tier is not None:
        rows += [
            (f"{name}={value}", request.tier.catalog) for name, value in request.tier.environment.items()
        ]
    if rows:
        lines.append("with these variables more in its environment:")
        width = max(len(setting) for setting, _ in rows)
        lines += [f"  {setting:{width}}  from {where}" for setting, where in rows]
    else:
        lines.append("with its environment as it is: nobody says anything about power.")
    lines.append(f"sbatch --test-only says: {word.text or 'nothing'}")
    return [*lines, "Nothing was submitted."]


def _object(request: Request, word: SlurmsWord) -> str:
    return as_json.object_line(
        {
            "submitted": False,
            "command": [as_json.text(one) for one in ["sbatch", *request.sbatch_arguments]],
            "environment": {name: as_json.text(value) for name, value in request.environment.items()},
            "values": as_json.values(request.chosen),
            "warnings": as_json.warnings(request.chosen),
            "test_only": as_json.slurms_word(word),
        }
    )


def print_script(request: Request) -> int:
    """Print the script with the values that count and are said elsewhere, so that it says them itself."""
    try:
        body = _body(request)
    except OSError as error:
        name = request.script.path or "standard input"
        complain(f"{name}: {(error.strerror or str(error)).lower()}")
        return EXIT_CANNOT_SAY
    say_bytes(_with_values(body, request))
    return 0


def _body(request: Request) -> bytes:
    if request.line.wraps:
        return _WRAPPED + os.fsencode(_wrapped(request.line.rest)) + b"\n"
    descriptor = os.open(request.script.path, os.O_RDONLY) if request.script.path else 0
    body = b""
    while piece := os.read(descriptor, _PIECE_BYTES):
        body += piece
    return body


def _wrapped(words: list[str]) -> str:
    """The value of --wrap; the last one counts."""
    found = ""
    for index, word in enumerate(words):
        written, has_value, value = word[2:].partition("=")
        if word.startswith("--") and sbatch_name(written) == "wrap":
            found = value if has_value else words[index + 1] if index + 1 < len(words) else ""
    return found


def _with_values(body: bytes, request: Request) -> bytes:
    """Put them after the last line for sbatch or psbatch, where they count more than what is above."""
    chosen = request.chosen
    above = f"{request.script.where}, line "
    lines = []
    for option, said in chosen.said.items():
        if said.where.startswith(above):
            continue
        word = "#SBATCH" if option in chosen.in_sbatch_lines and option in chosen.typed else "#PSBATCH"
        lines.append(os.fsencode(f"{word} --{option}={said.meant}"))
    if not lines:
        return body
    rows = body.split(b"\n")
    at = 1 if rows[0].startswith(b"#!") else 0
    for number, row in enumerate(rows):
        if is_body(row):
            break
        if row.startswith((b"#SBATCH", b"#PSBATCH")):
            at = number + 1
    return b"\n".join([*rows[:at], *lines, *rows[at:]])
