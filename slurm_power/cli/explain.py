"""``psbatch --explain``: ask Slurm and the power controller what would become of a job; submit nothing.

Read by psbatch only when it is asked for, so that a plain submission starts as fast as before.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from slurm_power import clock
from slurm_power.cli import as_json
from slurm_power.cli.explain_text import CannotAskError, plain, sentences
from slurm_power.cli.job_question import deadline, question
from slurm_power.cli.option_forms import NotMeantError, finish_by
from slurm_power.cli.sbatch_process import complain, say
from slurm_power.cli.slurms_word import SlurmsWord, slurms_word

if TYPE_CHECKING:
    from slurm_power.cli.submission import Request

EXIT_CANNOT_SAY = 1
DEFAULT_SOCKET = "/run/slurm-power/powerctld.sock"
TIMEOUT_SECONDS = 5.0
_MOST_ANSWER_BYTES = 1 << 20


def answer(request: Request) -> int:
    """Say what is expected; returns the exit status."""
    word = slurms_word(request.sbatch_arguments)
    words = [*request.options, *request.line.rest]
    asked = question(words, request.script.path, request.script.head, request.chosen.words())
    # Slurm's names come to the controller this way, too.
    asked = {
        key: os.fsencode(one).decode(errors="replace") if isinstance(one, str) else one
        for key, one in asked.items()
    }
    asked |= _durations(_ends(request), word)
    try:
        found = ask(asked, request.conf)
        lines = sentences(asked, found, word)
    except CannotAskError as error:
        complain(str(error))
        complain("nothing was submitted")
        if "json" in request.line.asked:
            told = {"submitted": False, "problems": [str(error)]}
            say(as_json.object_line(told | _tier_object(request)))
        elif request.tier is not None:  # the catalog needs no controller
            say("\n".join(_tier_lines(request, None)) + "\n")
        return EXIT_CANNOT_SAY
    if "json" in request.line.asked:
        say(as_json.object_line(_object(request, asked, found, word)))
    else:
        *before, last = lines
        say("\n".join([*before, *_tier_lines(request, found.get("run")), last]) + "\n")
    return 0


def _tier_lines(request: Request, run: Any) -> list[str]:
    """What the catalog says of the job's tier, nothing without one."""
    if request.tier is None:
        return []
    from slurm_power.cli.tier_text import tier_lines  # noqa: PLC0415 - only where a tier is said

    seconds = run.get("seconds") if isinstance(run, dict) else None
    return tier_lines(request.tier, _least(request), seconds if isinstance(seconds, int | float) else None)


def _tier_object(request: Request) -> dict[str, Any]:
    if request.tier is None:
        return {}
    from slurm_power.cli.tier_text import tier_object  # noqa: PLC0415 - as above

    return {"tier": tier_object(request.tier, _least(request))}


def _least(request: Request) -> float | None:
    """The least quality that its user wants of another tier."""
    word = request.chosen.words().get("min-quality")
    return None if word is None else float(word)


def _ends(request: Request) -> list[int]:
    """By when the job is to have ended: --finish-by, and --deadline where it is written as that can be."""
    ends = [request.chosen.words().get("finish-by", "")]
    with contextlib.suppress(NotMeantError):
        ends.append(finish_by(deadline(request.line.rest, request.script.head)))
    return [int(end.lstrip("@")) for end in ends if end]


def _durations(ends: list[int], word: SlurmsWord) -> dict[str, float]:
    """Moments as seconds from now: clocks of two machines need not agree."""
    now_seconds = clock.now().timestamp()
    found = {}
    if ends:
        found["finish_by_in_seconds"] = max(0.0, min(ends) - now_seconds)
    if word.starts_at is not None:
        try:
            starts = time.mktime(time.strptime(word.starts_at, "%Y-%m-%dT%H:%M:%S"))
        except (ValueError, OverflowError):
            return found
        found["start_in_seconds"] = max(0.0, starts - now_seconds)
    return {key: round(value, 1) for key, value in found.items()}


def ask(request: dict[str, Any], conf: dict[str, str]) -> dict[str, Any]:
    """The controller's answer; raises CannotAskError."""
    path = conf.get("controller_socket") or DEFAULT_SOCKET
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_SECONDS)
            connection.connect(path)
            connection.sendall(json.dumps(request).encode() + b"\n")
            line = _first_line(connection)
        found = json.loads(line)
    except TimeoutError:
        raise CannotAskError(f"the power controller at {path} did not answer in time") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CannotAskError(
            f"the power controller does not answer at {path} ({reason}); it can be asked on its own host only"
        ) from None
    except ValueError:
        raise CannotAskError(f"what answers at {path} is no power controller") from None
    if not isinstance(found, dict) or found.get("ok") is not True:
        reason = str(found.get("error") or "") if isinstance(found, dict) else ""
        raise CannotAskError(f"the power controller does not say: {plain(reason) or 'no reason given'}")
    return found


def _object(
    request: Request, asked: dict[str, Any], found: dict[str, Any], word: SlurmsWord
) -> dict[str, Any]:
    """The controller's answer as it came, less its "ok", beside what was asked and what Slurm says."""
    return {
        "submitted": False,
        "values": as_json.values(request.chosen),
        "warnings": as_json.warnings(request.chosen),
        "request": asked,
        "test_only": as_json.slurms_word(word),
        "answer": {key: value for key, value in found.items() if key != "ok"},
        **_tier_object(request),
    }


def _first_line(connection: socket.socket) -> bytes:
    answer = b""
    while b"\n" not in answer and len(answer) < _MOST_ANSWER_BYTES:
        piece = connection.recv(_MOST_ANSWER_BYTES)
        if not piece:
            break
        answer += piece
    return answer.partition(b"\n")[0]
