"""psbatch: sbatch with ``--workload`` and ``--flex``. It checks these two, then becomes sbatch itself.

Whatever is broken on our side, the submission goes through: values travel as environment variables, which our
SPANK plugin picks up where it is installed and nobody else minds.
"""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # no stubs; the public module costs 6 ms at import
import os
import sys

import slurm_power
from slurm_power.cli import choices, hint, plain_conf
from slurm_power.cli.sbatch_options import CommandLine, take_apart

EXIT_CANNOT_SAY = 1
EXIT_WRONG_VALUE = 2
EXIT_NOT_EXECUTABLE = 126
EXIT_NOT_FOUND = 127

HELP = """\
Usage: psbatch [--workload CLASS] [--flex FLEX] [--explain] [any option of sbatch] SCRIPT [ARGUMENTS]

Submits a batch job just as sbatch does, and says what the site may do with its power:

  --workload=CLASS   what the job does: training, inference or generation
  --flex=FLEX        how much it may be slowed down, or held for as long, to keep the site inside its limit:
                     flex0 not at all, flex1 up to 10 %, flex2 up to 25 %, flex3 up to 50 % (0..3 will do)
  --explain          submit nothing; say what the job should draw, how that is known, and whether it would be
                     held now (exit status 1 where the power controller cannot be asked)

The first two may also stand in the script (#PSBATCH --workload=training), in PSBATCH_WORKLOAD and
PSBATCH_FLEX, or as workload=... and flex=... in ~/.config/slurm-power/psbatch.conf. The command line counts
first, then the script, the environment, your file, the site's defaults.

All options of sbatch work as well. What sbatch says:

"""


def main() -> int:
    """Submit; returns only when nothing could be submitted, with the exit status."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(
            _signal.SIGINT, _signal.SIG_DFL
        )  # Ctrl-C ends us as it ends sbatch, without a traceback
    line = take_apart(sys.argv[1:], choices.OPTIONS)
    if line.wants_help:
        _write(1, HELP)
        return _become_sbatch(line.rest)
    if line.wants_version:
        _write(1, f"psbatch {slurm_power.__version__}\n")
        return _become_sbatch(line.rest)
    conf = plain_conf.read_plain(plain_conf.slurm_power_conf())
    problems: list[str] = []
    options = _choose(line, conf, problems)
    if problems:
        for problem in problems:
            _write(2, f"psbatch: {problem}\n")
        _write(2, "psbatch: nothing was submitted\n")
        return EXIT_WRONG_VALUE
    if line.wants_explanation:
        return _explain(line, conf)
    _tell_controller(conf)
    return _become_sbatch(options + line.rest)


def _choose(line: CommandLine, conf: dict[str, str], problems: list[str]) -> list[str]:
    """Put the chosen values into the environment; return the options that sbatch itself must be given.

    A wrong value of the user's is a problem; a wrong default of the site's must not stop anybody's work.
    """
    typed = [choices.Said(name, value, f"--{name}") for name, value in line.ours]
    script = choices.from_script(_script_path(line.script)) if line.script else choices.InScript()
    # The last word said at one place counts, so each list is read backwards.
    users = typed[::-1] + script.said[::-1] + choices.from_environment()
    problems += [said.problem() for said in reversed(users) if said.meant() is None] + script.problems
    from_file = choices.from_user_file(problems)
    problems += [said.problem() for said in from_file if said.meant() is None]
    from_site = choices.from_site(conf)
    if not problems:
        for said in from_site:
            if said.meant() is None:
                _write(2, f"psbatch: ignoring the site's {said.problem()}\n")
    options = []
    for option, carrier in choices.CARRIERS.items():
        for said in [*users, *from_file, *from_site]:
            word = said.meant()
            if said.option == option and word is not None:
                os.environ[carrier] = word
                if said in typed and option in script.sbatch_options:
                    # An #SBATCH line would beat the environment, and shows that sbatch knows the option.
                    options.append(f"--{option}={word}")
                break
    return options


def _explain(line: CommandLine, conf: dict[str, str]) -> int:
    """Say what the site expects of the job; returns the exit status."""
    from slurm_power.cli import explain  # noqa: PLC0415 - a submission does not wait for it

    meant = [os.environ.get(choices.CARRIERS[option]) for option in ("workload", "flex")]
    request = explain.question(line.rest, _script_path(line.script) if line.script else "", *meant)
    try:
        said = explain.sentences(request, explain.ask(request, conf))
    except explain.CannotAskError as error:
        _write(2, f"psbatch: {error}\npsbatch: nothing was submitted\n")
        return EXIT_CANNOT_SAY
    _write(1, "\n".join(said) + "\n")
    return 0


def _script_path(script: str) -> str:
    """Find the script as sbatch does: a bare name is first looked for on PATH."""
    if "/" not in script:
        for directory in _search_path():
            path = f"{directory}/{script}"
            if os.access(path, os.R_OK):
                return path
    return script


def _tell_controller(conf: dict[str, str]) -> None:
    address = conf.get("controller", "")
    reason = hint.announce(address) if address else "none is configured"
    if reason:
        at = f" at {address}" if address else ""
        _write(2, f"psbatch: no power controller{at} ({reason}): submitting plainly\n")


def _forget_python() -> None:
    """Undo what Python did to this process at its start, so that sbatch inherits what our caller gave us."""
    _signal.signal(_signal.SIGPIPE, _signal.SIG_DFL)
    _signal.signal(_signal.SIGXFSZ, _signal.SIG_DFL)
    # In the C locale Python sets LC_CTYPE for its children (PEP 538); jobs would inherit it.
    if "LC_CTYPE" in os.environ:
        given = b"\0" + _given_environment()
        if len(given) > 1 and b"\0LC_CTYPE=" not in given:
            del os.environ["LC_CTYPE"]
        elif len(given) > 1:
            value = given.partition(b"\0LC_CTYPE=")[2].partition(b"\0")[0]
            os.environ["LC_CTYPE"] = value.decode("utf-8", "surrogateescape")


def _given_environment() -> bytes:
    """Return the environment as the kernel handed it over, empty if that cannot be seen."""
    try:
        with open("/proc/self/environ", "rb") as file:  # noqa: PTH123 - pathlib costs 10 ms
            return file.read()
    except OSError:
        return b""


def _become_sbatch(arguments: list[str]) -> int:
    """Replace this process by sbatch; returns an exit status if there is none."""
    status = EXIT_NOT_FOUND
    what = "sbatch: command not found; is Slurm's client installed and on PATH?"
    ourselves = os.path.realpath(sys.argv[0])
    _forget_python()
    for directory in _search_path():
        path = f"{directory}/sbatch"
        if not os.access(path, os.X_OK) or os.path.isdir(path):  # noqa: PTH112 - pathlib costs 10 ms
            continue
        if os.path.realpath(path) == ourselves:  # a site that calls us sbatch
            continue
        try:
            os.execve(path, ["sbatch", *arguments], os.environ)  # noqa: S606 - the whole point: no shell between
        except OSError as error:
            status, what = EXIT_NOT_EXECUTABLE, f"{path}: {error.strerror}"
    _write(2, f"psbatch: {what}\n")
    return status


def _search_path() -> list[str]:
    return [directory or "." for directory in os.environ.get("PATH", os.defpath).split(":")]


def _write(descriptor: int, text: str) -> None:
    """Write a message; a closed or full output must not stop a submission."""
    try:
        os.write(descriptor, text.encode("utf-8", "backslashreplace"))
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main())
