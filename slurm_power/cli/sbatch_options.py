"""Where sbatch's own options end: sbatch stops at the first word that is neither an option nor its value.

The tables join the options of Slurm 22.05 to 26.05 that take their value from the next word. Options whose
value is optional (``--nice[=n]``) only take it after ``=``, so they need no table.
"""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


LONG_WITH_VALUE = _names(
    """
    account acctg-freq array autocomplete batch bb bbf begin chdir cluster cluster-constraint clusters comment
    constraint container container-id container-type context core-spec cores-per-socket cpu-freq cpus-per-gpu
    cpus-per-task deadline delay-boot dependency distribution error exclude export export-file extra
    extra-node-info gid gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket gpus-per-task gres gres-flags
    hint input job-name kill-on-invalid-dep licenses mail-type mail-user mcs-label mem mem-bind mem-per-cpu
    mem-per-gpu mem-update mincpus network nodefile nodelist nodes ntasks ntasks-per-core ntasks-per-gpu
    ntasks-per-node ntasks-per-socket ntasks-per-tres open-mode output partition power prefer priority profile
    qos reservation resources segment signal sockets-per-node switches tasks-per-node thread-spec
    threads-per-core time time-min tmp tres-bind tres-per-task uid wait-all-nodes wckey wrap
    """
)
LONG_WITHOUT_VALUE = _names(
    """
    consolidate-segments contiguous exclusive external get-user-env help hold ignore-pbs nice no-kill
    no-requeue oom-kill-step overcommit oversubscribe parsable propagate quiet reboot requeue resv-ports
    spread-job spread-segments stepmgr test-only usage use-min-nodes verbose version wait
    """
)
SHORT_WITH_VALUE = frozenset("ABCDFGJLMNSabcdeimnopqtwx")

HETEROGENEOUS_SEPARATOR = ":"


class CommandLine:
    """psbatch's command line, taken apart.

    ``ours`` holds (option, value or None if it is missing) in order; ``rest`` everything else, untouched;
    ``script`` the script's name, None when sbatch reads it from its input or from ``--wrap``.
    """

    __slots__ = ("ours", "rest", "script", "wants_explanation", "wants_help", "wants_version")

    def __init__(self) -> None:
        self.ours: list[tuple[str, str | None]] = []
        self.rest: list[str] = []
        self.script: str | None = None
        self.wants_explanation = False
        self.wants_help = False
        self.wants_version = False


def take_apart(arguments: list[str], our_options: tuple[str, ...]) -> CommandLine:
    """Separate our options from sbatch's, up to the script; what follows the script is the script's.

    An option in no table (another SPANK plugin's) counts as one without value. If it has one after all, that
    value is taken for the script and the rest goes to sbatch as it is, ours included: nothing is lost where
    our SPANK plugin is installed, and where it is not sbatch says which option it does not know.
    """
    line = CommandLine()
    index = 0
    while index < len(arguments):
        word = arguments[index]
        if word == HETEROGENEOUS_SEPARATOR:  # sbatch looks past it, too
            line.rest.append(word)
            index += 1
            continue
        if word in ("--", "-") or not word.startswith("-"):
            _end(line, arguments[index:])
            break
        name, has_value, value = word[2:].partition("=") if word.startswith("--") else ("", "", "")
        if name in our_options:
            index += 1
            if not has_value:
                line.ours.append((name, arguments[index] if index < len(arguments) else None))
                index += 1
            else:
                line.ours.append((name, value))
            continue
        if word == "--explain":
            line.wants_explanation = True
            index += 1
            continue
        _note_information(line, word)
        words = 2 if not has_value and takes_next_word(word) else 1
        line.rest += arguments[index : index + words]
        index += words
    return line


def _end(line: CommandLine, words: list[str]) -> None:
    line.rest += words
    after = words[1:] if words[0] == "--" else words
    line.script = next((word for word in after if word != HETEROGENEOUS_SEPARATOR), None)


def _note_information(line: CommandLine, word: str) -> None:
    if word in ("--help", "-h", "--usage"):
        line.wants_help = True
    elif word in ("--version", "-V"):
        line.wants_version = True


def takes_next_word(word: str) -> bool:
    """Whether sbatch takes the next word as this option's value; ``word`` holds no ``=`` if it is long."""
    if not word.startswith("--"):
        for position, letter in enumerate(word[1:], start=1):
            if letter in SHORT_WITH_VALUE:
                return position == len(word) - 1  # in -N2 the value is already there
        return False
    name = word[2:]
    if name in LONG_WITH_VALUE:
        return True
    if name in LONG_WITHOUT_VALUE:
        return False
    # getopt_long accepts any beginning of a name that fits only one option.
    fits = [known for known in LONG_WITH_VALUE | LONG_WITHOUT_VALUE if known.startswith(name)]
    return bool(fits) and all(known in LONG_WITH_VALUE for known in fits)
