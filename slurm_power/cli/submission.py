"""From psbatch's command line to what sbatch is to be started with, or to an answer in its place."""

from __future__ import annotations

import os

from slurm_power.cli import choices, hint, plain_conf
from slurm_power.cli.option_forms import OPTIONS
from slurm_power.cli.sbatch_options import ACTIONS, CommandLine, take_apart
from slurm_power.cli.sbatch_process import complain, say
from slurm_power.cli.script_source import HandOverError, Script, script_of

TYPE_CHECKING = False  # as typing's own, whose import a submission would wait for
if TYPE_CHECKING:
    from slurm_power.cli.tier_choice import TierChoice

EXIT_CANNOT_SAY = 1
EXIT_WRONG_VALUE = 2


class Request:
    """All that is known of one call of psbatch. ``tier`` is None where nothing is said of tiers."""

    __slots__ = ("chosen", "conf", "line", "options", "script", "tier")

    def __init__(
        self,
        line: CommandLine,
        script: Script,
        chosen: choices.Chosen,
        conf: dict[str, str],
        tier: TierChoice | None = None,
    ) -> None:
        self.line = line
        self.script = script
        self.chosen = chosen
        self.conf = conf
        self.tier = tier
        self.options = chosen.sbatch_words() + ([] if tier is None else tier.arguments)

    @property
    def environment(self) -> dict[str, str]:
        """What is put into the environment of this process, and so into sbatch's."""
        if self.tier is None:
            return self.chosen.environment()
        # In a job our plugin takes what stands around it about tiers for that job's, unless told otherwise.
        said = {choices.SAID: "1"} if "SLURM_JOB_ID" in os.environ else {}
        return self.chosen.environment() | self.tier.environment | said

    @property
    def sbatch_arguments(self) -> list[str]:
        """What sbatch is started with."""
        return self.options + self.line.rest

    def warn(self, text: str) -> None:
        """Say something that stops nothing."""
        self.chosen.warnings.append(text)
        complain(text)


def prepare(arguments: list[str]) -> list[str] | int:
    """Return what sbatch is to be started with, or the exit status where it is not to be started (any more).

    The environment of this process is then the job's.
    """
    line = take_apart(arguments, choices.NAMES)
    if line.completion is not None:
        return _completion(line.completion)
    if line.information:
        _inform(line)
        return line.rest
    try:
        request = _request(line)
    except HandOverError as error:
        complain(str(error))
        complain("nothing was submitted")
        return EXIT_CANNOT_SAY
    if request is None:
        return EXIT_WRONG_VALUE
    for action in ACTIONS:
        if action in line.asked:
            return _answer(action, request)
    _tell_controller(request)
    return _submit_as_json(request) if "json" in line.asked else request.sbatch_arguments


def _request(line: CommandLine) -> Request | None:
    """Find out what counts, and put it into the environment; None for what is wrong, which is then told."""
    conf = plain_conf.read_plain(plain_conf.slurm_power_conf())
    problems = list(line.problems)
    asked = [action for action in ACTIONS if action in line.asked]
    if len(asked) > 1 or ("print-script" in asked and "json" in line.asked):
        words = " and ".join(f"--{name}" for name in (*asked, "json") if name in line.asked)
        problems.append(f"{words} do not go together")
    script = script_of(line.script, reads_input=line.reads_input)
    chosen = choices.choose(line.ours, choices.from_script(script.head, script.where), conf, problems)
    tier = _about_tiers(line, script, chosen, conf, problems)
    if problems:
        _refuse(line, problems)
        return None
    for warning in chosen.warnings:
        complain(warning)
    request = Request(line, script, chosen, conf, tier)
    for name in (*(OPTIONS[option].variable for option in choices.ABOUT_TIERS), choices.MODEL):
        os.environ.pop(name, None)  # an outer job's
    os.environ.update(request.environment)
    _hint_at_misspelt(request)
    return request


def _about_tiers(
    line: CommandLine, script: Script, chosen: choices.Chosen, conf: dict[str, str], problems: list[str]
) -> TierChoice | None:
    if not any(option in chosen.said for option in choices.ABOUT_TIERS):
        return None
    from slurm_power.cli import tier_choice  # noqa: PLC0415 - it reads catalogs: only where a tier is said

    return tier_choice.choose(line, script.head, chosen, conf, problems)


def _submit_as_json(request: Request) -> int:
    from slurm_power.cli.json_submission import submit  # noqa: PLC0415 - a plain submission does not wait for it

    return submit(request)


def _inform(line: CommandLine) -> None:
    if "help" in line.information:
        from slurm_power.cli.help_text import HELP  # noqa: PLC0415 - a submission does not wait for it

        say(HELP)
    elif "version" in line.information:
        import slurm_power  # noqa: PLC0415 - as above

        say(f"psbatch {slurm_power.__version__}\n")


def _refuse(line: CommandLine, problems: list[str]) -> None:
    for problem in problems:
        complain(problem)
    complain("nothing was submitted")
    if "json" in line.asked:
        from slurm_power.cli import as_json  # noqa: PLC0415 - as above

        told = [as_json.text(problem) for problem in problems]
        say(as_json.object_line({"submitted": False, "problems": told}))


def _completion(shell: str) -> int:
    from slurm_power.cli import completion  # noqa: PLC0415 - as above

    text = completion.script(shell)
    if text is None:
        complain(f"--completion: {shell!r} is not one of {', '.join(completion.SHELLS)}")
        return EXIT_WRONG_VALUE
    say(text)
    return 0


def _answer(action: str, request: Request) -> int:
    """Say what was asked instead of submitting; returns the exit status."""
    if action == "explain":
        from slurm_power.cli import explain  # noqa: PLC0415 - as above

        return explain.answer(request)
    from slurm_power.cli import dry_run  # noqa: PLC0415 - as above

    return dry_run.show(request) if action == "dry-run" else dry_run.print_script(request)


def _hint_at_misspelt(request: Request) -> None:
    """Hint at an option of ours that was misspelt.

    Said before sbatch runs, and it decides: the option may be another plugin's, which only sbatch knows, and
    we are sbatch by the time it says so. So only for names that it has in no version, one or two letters off.
    """
    for written in request.line.unknown:
        near = choices.near_option(written)
        if near:
            request.warn(f"--{written}: did you mean --{near}? sbatch is asked whether it knows it")


def _tell_controller(request: Request) -> None:
    address = request.conf.get("controller", "")
    reason = hint.announce(address) if address else "none is configured"
    if reason:
        at = f" at {address}" if address else ""
        request.warn(f"no power controller{at} ({reason}): submitting plainly")
