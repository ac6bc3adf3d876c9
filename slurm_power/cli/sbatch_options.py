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

# Ours without a value. They are done in place of a submission; --json changes what is printed.
ACTIONS = ("explain", "dry-run", "print-script")
WITHOUT_VALUE = (*ACTIONS, "json")
COMPLETION = "completion"
# Where sbatch reads neither a script nor its input.
_INFORMATION = {"help": "help", "usage": "help", "version": "version", "autocomplete": "autocomplete"}


class CommandLine:
    """psbatch's command line, taken apart.

    ``ours`` holds (option, value or None if it is missing) in order; ``rest`` everything else, untouched;
    ``script`` the script's name, None when sbatch reads it from its input or from ``--wrap``; ``asked`` our
    options without a value; ``information`` which of help, version and autocomplete sbatch is asked for;
    ``unknown`` long options in no table: those of other plugins, and misspelt ones.
    """

    __slots__ = (
        "asked",
        "completion",
        "information",
        "ours",
        "problems",
        "rest",
        "script",
        "unknown",
        "wraps",
    )

    def __init__(self) -> None:
        self.ours: list[tuple[str, str | None]] = []
        self.rest: list[str] = []
        self.script: str | None = None
        self.asked: set[str] = set()
        self.completion: str | None = None
        self.information: set[str] = set()
        self.unknown: list[str] = []
        self.problems: list[str] = []
        self.wraps = False

    @property
    def reads_input(self) -> bool:
        """Whether sbatch will take the script from its standard input."""
        return self.script is None and not self.wraps and not self.information


def take_apart(arguments: list[str], with_value: tuple[str, ...]) -> CommandLine:
    """Separate our options from sbatch's, up to the script; what follows the script is the script's.

    An option in no table (another SPANK plugin's) counts as one without value. If it has one after all, that
    value is taken for the script and the rest goes to sbatch as it is, ours included: nothing is lost where
    our SPANK plugin is installed, and where it is not sbatch says which option it does not know.
    """
    line = CommandLine()
    known = (*with_value, *WITHOUT_VALUE, COMPLETION)
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
        written, has_value, value = word[2:].partition("=") if word.startswith("--") else ("", "", "")
        name = our_name(written, known)
        index += 1
        if name in WITHOUT_VALUE:
            line.asked.add(name)
            if has_value:
                line.problems.append(f"--{name}: takes no value")
        elif name:
            given: str | None = value
            if not has_value:
                given = arguments[index] if index < len(arguments) else None
                index += 1
            if name == COMPLETION:
                line.completion = given or ""
            else:
                line.ours.append((name, given))
        else:
            _note(line, word, written)
            words = 2 if not has_value and takes_next_word(word) else 1
            line.rest += arguments[index - 1 : index - 1 + words]
            index += words - 1
    return line


def _end(line: CommandLine, words: list[str]) -> None:
    line.rest += words
    after = words[1:] if words[0] == "--" else words
    line.script = next((word for word in after if word != HETEROGENEOUS_SEPARATOR), None)


def _note(line: CommandLine, word: str, written: str) -> None:
    """Remember what an option of sbatch's, or of nobody's, means for us."""
    if word in ("-h", "-V"):
        line.information.add("help" if word == "-h" else "version")
    if not written:
        return
    name = sbatch_name(written)
    if name in _INFORMATION:
        line.information.add(_INFORMATION[name])
    line.wraps |= name == "wrap"
    if not name and not _fits(written):
        line.unknown.append(written)


def our_name(written: str, known: tuple[str, ...]) -> str:
    """The one of our options that is meant: its name, or a beginning that no other name has; else empty.

    As getopt_long does it, with sbatch's own names at the table: what might mean one of those stays sbatch's.
    """
    if written in known:
        return written
    if not written:
        return ""
    fits = [name for name in known if name.startswith(written)]
    return fits[0] if len(fits) == 1 and not _fits(written) else ""


def sbatch_name(written: str) -> str:
    """The option of sbatch's that is meant, empty for none or several."""
    if written in LONG_WITH_VALUE or written in LONG_WITHOUT_VALUE:
        return written
    fits = _fits(written)
    return fits[0] if len(fits) == 1 else ""


def _fits(written: str) -> list[str]:
    """All of sbatch's names that begin so: getopt_long accepts any beginning that fits only one."""
    return [
        name for names in (LONG_WITH_VALUE, LONG_WITHOUT_VALUE) for name in names if name.startswith(written)
    ]


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
    fits = _fits(name)
    return bool(fits) and all(known in LONG_WITH_VALUE for known in fits)
