"""psbatch: sbatch with options about power. It checks these, then becomes sbatch itself.

Whatever is broken on our side, the submission goes through: values travel as environment variables, which our
SPANK plugin picks up where it is installed and nobody else minds.
"""

from __future__ import annotations

import sys

from slurm_power.cli import sbatch_process

EXIT_CANNOT_SAY = 1
# Beginnings of what asks for anything but a submission.
_SUBMITS_NOTHING = ("--expl", "--dry", "--print", "--compl")


def main() -> int:
    """Submit; returns only when nothing could be submitted, with the exit status."""
    sbatch_process.as_a_command_starts()
    arguments = sys.argv[1:]
    try:
        from slurm_power.cli.submission import prepare  # noqa: PLC0415 - a fault in it must not lose a submission

        outcome = prepare(arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is, the job is to be submitted
        return _after_fault(arguments, error)
    return outcome if isinstance(outcome, int) else sbatch_process.become_sbatch(outcome)


def _after_fault(arguments: list[str], error: Exception) -> int:
    """Submit plainly what can be submitted plainly."""
    what = f"fault of psbatch ({type(error).__name__}: {error})"
    handed_over = getattr(error, "sbatch_has_started", False)
    if handed_over or any(word.startswith(_SUBMITS_NOTHING) for word in arguments):
        sbatch_process.complain(f"{what}{'' if handed_over else ': nothing was submitted'}")
        return EXIT_CANNOT_SAY
    sbatch_process.complain(f"{what}: submitting plainly")
    return sbatch_process.become_sbatch(_without_ours(arguments))


def _without_ours(arguments: list[str]) -> list[str]:
    """The words for sbatch; all of them where they cannot be told apart."""
    try:
        from slurm_power.cli.option_forms import OPTIONS  # noqa: PLC0415 - as above
        from slurm_power.cli.sbatch_options import take_apart  # noqa: PLC0415 - as above

        return take_apart(arguments, tuple(OPTIONS)).rest
    except Exception:  # noqa: BLE001 - as above
        return arguments


if __name__ == "__main__":
    sys.exit(main())
