"""``psbatch --completion=SHELL``: completion for bash, zsh and fish, out of the tables of options."""

from __future__ import annotations

from slurm_power.cli.option_forms import OPTIONS
from slurm_power.cli.sbatch_options import COMPLETION, LONG_WITH_VALUE, LONG_WITHOUT_VALUE, WITHOUT_VALUE

SHELLS = ("bash", "zsh", "fish")

_SAYS = {
    "workload": "what the job does",
    "flex": "how much it may be slowed down, or held for as long",
    "max-hold": "the longest it may be held before it starts",
    "finish-by": "do not let power make it end later than this",
    "power-cap": "the most each of its GPUs may draw, in watts",
    "tier": "the model tier that it runs, as FAMILY/TIER",
    "tiers-ok": "tiers of that family that it may be moved to",
    "min-quality": "the least quality of such a tier",
    "explain": "submit nothing; what the job should draw and cost, and when it should start",
    "dry-run": "submit nothing; how sbatch would be started",
    "print-script": "submit nothing; the script with the values that count",
    "json": "one JSON object on stdout",
    "completion": "completion for a shell",
}
# Words to begin with, where any value of a form will do.
_EXAMPLES = {
    "max-hold": ("0", "15m", "1h", "4h", "1d"),
    "finish-by": ("now+8hours", "now+1days", "18:00"),
    "tiers-ok": ("any", "none"),
}
_SBATCH_WORDS = {
    "mail-type": (
        *("NONE", "BEGIN", "END", "FAIL", "REQUEUE", "ALL", "STAGE_OUT", "ARRAY_TASKS"),
        *("TIME_LIMIT", "TIME_LIMIT_50", "TIME_LIMIT_80", "TIME_LIMIT_90"),
    ),
    "open-mode": ("append", "truncate"),
    "distribution": ("block", "cyclic", "plane", "arbitrary"),
    "kill-on-invalid-dep": ("yes", "no"),
    "wait-all-nodes": ("0", "1"),
}


def script(shell: str) -> str | None:
    """The completion for a shell, None for a shell that is not known."""
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell]() if shell in SHELLS else None


def _ours() -> dict[str, tuple[str, ...] | None]:
    """Our options with the words that may follow; None for those without a value."""
    found: dict[str, tuple[str, ...] | None] = {
        name: option.words or _EXAMPLES.get(name, ()) for name, option in OPTIONS.items()
    }
    return found | dict.fromkeys(WITHOUT_VALUE) | {COMPLETION: SHELLS}


def _words() -> dict[str, tuple[str, ...]]:
    """Options with words to offer, sbatch's too."""
    return {name: words for name, words in (_ours() | _SBATCH_WORDS).items() if words}


def _bash() -> str:
    cases = "\n".join(
        f'        --{name}) words="{" ".join(words)}" ;;' for name, words in sorted(_words().items())
    )
    with_value = {name for name, words in _ours().items() if words is not None} | LONG_WITH_VALUE
    without = {name for name, words in _ours().items() if words is None} | LONG_WITHOUT_VALUE
    options = " ".join(
        [*(f"--{name}=" for name in sorted(with_value)), *(f"--{name}" for name in sorted(without))]
    )
    return f"""\
# bash completion for psbatch; made by: psbatch --completion=bash
_psbatch() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} option=${{COMP_WORDS[COMP_CWORD - 1]}} words=""
    # bash takes --flex=2 apart at its "=".
    if [ "$current" = "=" ]; then
        current=""
    elif [ "$option" = "=" ] && [ "$COMP_CWORD" -ge 2 ]; then
        option=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    COMPREPLY=()
    case $option in
{cases}
        -p | --partition) words=$(timeout 2 sinfo -h -o %R 2>/dev/null) ;;
    esac
    if [ -n "$words" ]; then
        mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
        return
    fi
    if [[ $current == -* ]]; then
        mapfile -t COMPREPLY < <(compgen -W "{options}" -- "$current")
        [[ ${{COMPREPLY[0]-}} == *= ]] && compopt -o nospace 2>/dev/null
        return
    fi
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
}}
complete -o filenames -F _psbatch psbatch
"""


def _zsh() -> str:
    words = _words()
    lines = []
    for name, ours in _ours().items():
        value = "" if ours is None else f":{name}:({' '.join(ours)})" if ours else f":{name}:"
        equals = "" if ours is None else "="
        lines.append(f"'--{name}{equals}[{_SAYS[name]}]{value}'")
    for name in sorted(LONG_WITH_VALUE):
        value = f"({' '.join(words[name])})" if name in words else _zsh_value(name)
        lines.append(f"'*--{name}=[option of sbatch]:{name}:{value}'")
    lines += [f"'--{name}[option of sbatch]'" for name in sorted(LONG_WITHOUT_VALUE)]
    arguments = " \\\n    ".join([*lines, "'1:script:_files'", "'*::argument:_files'"])
    return f"""\
#compdef psbatch
# zsh completion for psbatch; made by: psbatch --completion=zsh
_arguments -S \\
    {arguments}
"""


def _zsh_value(name: str) -> str:
    if name == "partition":
        return "($(timeout 2 sinfo -h -o %R 2>/dev/null))"
    return "_files" if name in ("output", "error", "input") else "_files -/" if name == "chdir" else ""


def _fish() -> str:
    words = _words()
    lines = ["# fish completion for psbatch; made by: psbatch --completion=fish"]
    for name, ours in _ours().items():
        value = "" if ours is None else " -x" + (f" -a '{' '.join(ours)}'" if ours else "")
        lines.append(f"complete -c psbatch -l {name}{value} -d '{_SAYS[name]}'")
    for name in sorted(LONG_WITH_VALUE):
        value = f" -x -a '{' '.join(words[name])}'" if name in words else " -r"
        if name == "partition":
            value = " -x -a '(timeout 2 sinfo -h -o %R 2>/dev/null)'"
        lines.append(f"complete -c psbatch -l {name}{value} -d 'option of sbatch'")
    lines += [f"complete -c psbatch -l {name} -d 'option of sbatch'" for name in sorted(LONG_WITHOUT_VALUE)]
    return "\n".join(lines) + "\n"
