"""What ``psbatch --explain`` asks about: the job as sbatch's options tell it. Read only when asked for."""

from __future__ import annotations

import os
import re
from typing import Any

from slurm_power.cli.option_forms import slurm_time_seconds
from slurm_power.cli.sbatch_options import HETEROGENEOUS_SEPARATOR, takes_next_word

_SHORT = {"J": "job-name", "A": "account", "G": "gpus", "N": "nodes", "n": "ntasks", "t": "time"}
_WANTED = (*_SHORT.values(), "gres", "gpus-per-node", "gpus-per-task", "ntasks-per-node", "wrap", "deadline")


def deadline(rest: list[str], head: bytes) -> str:
    """What is said of sbatch's own --deadline, empty for nothing."""
    return (_in_script(head) | _in_words(rest)).get("deadline", "")


def question(rest: list[str], script: str, head: bytes, words: dict[str, str]) -> dict[str, Any]:
    """The request: what sbatch's options, those in the script and those in the environment say of the job.

    ``words`` are the normal forms of our own options. ``--finish-by`` is left out: it needs to know the time.
    """
    said = {
        **_in_environment(),
        **_in_script(head),
        **_in_words(rest),
    }
    name = said.get("job-name") or ("wrap" if "wrap" in said else script.rpartition("/")[2]) or "sbatch"
    asked: dict[str, Any] = {"op": "expect", "name": name, "gpus": gpus_asked_for(said)}
    max_hold, cap = words.get("max-hold"), words.get("power-cap")
    more = {
        "gpu_type": gpu_type_asked_for(said) or None,
        "workload": words.get("workload"),
        "flex": words.get("flex"),
        "account": said.get("account") or None,
        "time_limit_seconds": slurm_time_seconds(said.get("time", "")) or None,
        "max_hold_seconds": None if max_hold is None else int(max_hold.rstrip("s")),
        "cap_watts": None if cap is None else int(cap),
    }
    return {**asked, **{key: value for key, value in more.items() if value is not None}}


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


def _in_script(head: bytes) -> dict[str, str]:
    said: dict[str, str] = {}
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


def _leading_number(text: str) -> int:
    match = re.match(r"\d+", text)
    return int(match[0]) if match else 0
