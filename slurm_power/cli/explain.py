"""``psbatch --explain``: ask the controller what a job would draw and whether it would wait; submit nothing.

Read by psbatch only when it is asked for, so that a plain submission starts as fast as before.
"""

from __future__ import annotations

import json
import os
import re
import socket
from typing import Any

from slurm_power.cli import plain_conf
from slurm_power.cli.sbatch_options import HETEROGENEOUS_SEPARATOR, takes_next_word

DEFAULT_SOCKET = "/run/slurm-power/powerctld.sock"
TIMEOUT_SECONDS = 5.0
_MOST_ANSWER_BYTES = 65536
_SHORT = {"J": "job-name", "A": "account", "G": "gpus", "N": "nodes", "n": "ntasks", "t": "time"}
_WANTED = (*_SHORT.values(), "gres", "gpus-per-node", "gpus-per-task", "ntasks-per-node", "wrap")


class CannotAskError(Exception):
    """The controller gave no answer; the text says why."""


def question(rest: list[str], script: str, workload: str | None, flex: str | None) -> dict[str, Any]:
    """The request: what sbatch's options, those in the script and those in the environment say of the job."""
    said = {
        **_in_environment(),
        **_in_script(script),
        **_in_words(rest),
    }
    name = said.get("job-name") or ("wrap" if "wrap" in said else script.rpartition("/")[2]) or "sbatch"
    asked: dict[str, Any] = {"op": "expect", "name": name, "gpus": gpus_asked_for(said)}
    limit_seconds = _limit_seconds(said.get("time", ""))
    more = {
        "gpu_type": gpu_type_asked_for(said),
        "workload": workload,
        "flex": flex,
        "account": said.get("account"),
        "time_limit_seconds": limit_seconds,
    }
    return {**asked, **{key: value for key, value in more.items() if value}}


def ask(request: dict[str, Any], conf: dict[str, str]) -> dict[str, Any]:
    """The controller's answer; raises CannotAskError."""
    path = conf.get("controller_socket") or DEFAULT_SOCKET
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(TIMEOUT_SECONDS)
            connection.connect(path)
            connection.sendall(json.dumps(request).encode() + b"\n")
            line = _first_line(connection)
        answer = json.loads(line)
    except TimeoutError:
        raise CannotAskError(f"the power controller at {path} did not answer in time") from None
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise CannotAskError(
            f"the power controller does not answer at {path} ({reason}); it listens on its own host only"
        ) from None
    except ValueError:
        raise CannotAskError(f"what answers at {path} is no power controller") from None
    if not isinstance(answer, dict) or answer.get("ok") is not True:
        reason = str(answer.get("error") or "") if isinstance(answer, dict) else ""
        raise CannotAskError(f"the power controller does not say: {_plain(reason) or 'no reason given'}")
    return answer


def sentences(request: dict[str, Any], answer: dict[str, Any]) -> list[str]:
    """The answer in plain lines."""
    expected = answer.get("expected")
    if not isinstance(expected, dict):
        raise CannotAskError("the power controller's answer makes no sense")
    try:
        mean, p95 = float(expected["expected_mean_watts"]), float(expected["expected_p95_watts"])
        jobs, known_from = int(expected["expected_jobs"]), str(expected["expected_known_from"])
        gpus, workload, flex = int(request["gpus"]), expected["workload"], expected["flex"]
        held, longest = bool(answer["held"]), float(answer["longest_hold_seconds"])
    except (KeyError, TypeError, ValueError):
        raise CannotAskError("the power controller's answer makes no sense") from None
    whose = (
        f"known from {jobs} of {known_from}" if jobs else "the default of its class: no job like it has run"
    )
    total = f"; {_watts(mean * gpus)} on its {gpus} GPUs" if gpus else ""
    lines = [
        f"It should draw about {_watts(mean)} a GPU (seldom above {_watts(p95)}){total}: {_plain(whose)}.",
        f"It counts as {_plain(str(workload))}, {_plain(str(flex))}"
        + (f": it may be held for up to {longest:.0f} s, or slowed down as much." if longest else
           ": it is neither held nor slowed down to save money."),
    ]  # fmt: skip
    if not gpus:
        lines.append("No GPUs are asked for, so it would not be held for power.")
    elif held:
        lines.append(f"It would be held now: {_plain(str(answer.get('hold_reason', '')))}.")
    else:
        lines.append("It would not be held for power now.")
    return [*lines, "Nothing was submitted."]


def gpus_asked_for(said: dict[str, str]) -> int:
    """GPUs of the whole job, as far as its options tell; 0 for none."""
    nodes = _leading_number(said.get("nodes", "")) or 1
    per_node_tasks = _leading_number(said.get("ntasks-per-node", ""))
    tasks = _leading_number(said.get("ntasks", "")) or (per_node_tasks or 1) * nodes
    for option, times in (("gpus", 1), ("gpus-per-node", nodes), ("gpus-per-task", tasks), ("gres", nodes)):
        count = _count(said.get(option, ""), generic=option == "gres")
        if count:
            return count * times
    return 0


def gpu_type_asked_for(said: dict[str, str]) -> str:
    """The type of GPUs that the options name; empty for any type."""
    for option in ("gpus", "gpus-per-node", "gpus-per-task", "gres"):
        generic = r"(?:gres[:/])?gpu:" if option == "gres" else ""
        match = re.match(rf"{generic}([A-Za-z][^:,=]*)(?::\d|$)", said.get(option, ""))
        if match is not None and match[1] != "none":
            return match[1]
    return ""


def _count(text: str, *, generic: bool) -> int:
    total = 0
    for part in text.split(","):
        if generic and not re.match(r"(?:gres[:/])?gpu(?:[:=]|$)", part):
            continue
        numbers = re.findall(r"(?:^|[:=])(\d+)(?:\(.*\))?$", part)
        total += int(numbers[-1]) if numbers else int(bool(part))
    return total


def _in_words(words: list[str]) -> dict[str, str]:
    """What the options before the script say; the last word on each counts."""
    said: dict[str, str] = {}
    index = 0
    while index < len(words):
        word = words[index]
        if word == HETEROGENEOUS_SEPARATOR or word in ("--", "-") or not word.startswith("-"):
            break
        name, has_value, value = word[2:].partition("=") if word.startswith("--") else (word[1:], "", "")
        index += 1
        if not has_value and takes_next_word(word):
            value = words[index] if index < len(words) else ""
            index += 1
        elif not word.startswith("--"):
            name, value = word[1:2], word[2:]
        name = _SHORT.get(name, name) if not word.startswith("--") else name
        if name in _WANTED:
            said[name] = value
    return said


def _in_script(script: str) -> dict[str, str]:
    said: dict[str, str] = {}
    head = plain_conf.read_head(script) if script else b""
    for raw in head.decode("utf-8", "replace").splitlines():
        if raw.strip() and not raw.startswith("#"):
            break
        if raw.startswith("#SBATCH"):
            words = [word.strip("\"'") for word in raw.split(" #")[0].split()[1:]]
            said.update(_in_words(words))
    return said


def _in_environment() -> dict[str, str]:
    named = {
        "job-name": "JOB_NAME",
        "account": "ACCOUNT",
        "gres": "GRES",
        "gpus": "GPUS",
        "time": "TIMELIMIT",
    }
    named |= {"gpus-per-node": "GPUS_PER_NODE", "gpus-per-task": "GPUS_PER_TASK"}
    found = {option: os.environ.get(f"SBATCH_{variable}", "") for option, variable in named.items()}
    return {option: value for option, value in found.items() if value}


def _limit_seconds(text: str) -> float | None:
    """Slurm's "minutes", "minutes:seconds", "hours:minutes:seconds", "days-hours[:minutes[:seconds]]"."""
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        return None
    days, *rest = (None if part is None else int(part) for part in match.groups())
    parts = [part for part in rest if part is not None]
    if days is None and len(parts) < 3:
        parts = [0, *parts, 0][:3]
    hours, minutes, seconds = [*parts, 0, 0][:3]
    return float((((days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds)


def _leading_number(text: str) -> int:
    match = re.match(r"\d+", text)
    return int(match[0]) if match else 0


def _first_line(connection: socket.socket) -> bytes:
    answer = b""
    while b"\n" not in answer and len(answer) < _MOST_ANSWER_BYTES:
        piece = connection.recv(_MOST_ANSWER_BYTES)
        if not piece:
            break
        answer += piece
    return answer.partition(b"\n")[0]


def _watts(watts: float) -> str:
    return f"{watts:.0f} W" if watts < 1000.0 else f"{watts / 1000.0:.1f} kW"


def _plain(text: str) -> str:
    """What others have named cannot move the terminal's cursor."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)
