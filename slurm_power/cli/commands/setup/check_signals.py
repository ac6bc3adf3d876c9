"""The part of ``slurm-power check`` that tries the signals of the grid."""

from slurm_power.bridge.signal_check import try_signals
from slurm_power.bridge.signal_found import SignalFound, Standing
from slurm_power.cli.commands.quantities import duration_text, plain_text
from slurm_power.cli.powerbridge_run import file_problems
from slurm_power.config import SiteConfig


def signals_found(config: SiteConfig, *, ask: bool) -> list[SignalFound]:
    """Try each file and, with ``ask``, each signal; those are not asked whose files powerbridge refuses."""
    refused: dict[str, list[str]] = {}
    for problem in file_problems(config):
        name = ".".join(problem.split(".")[:2])
        refused.setdefault(name, []).append(problem.removeprefix(f"{name}."))
    asked = {name: one for name, one in config.signals.items() if f"signals.{name}" not in refused}
    found = try_signals(config, asked if ask else {})
    return found + [
        SignalFound(
            name=f"signals.{name}",
            kind=signal.kind.value,
            standing=Standing.WRONG,
            what="; ".join(refused[f"signals.{name}"]),
            fix="powerbridge does not start before",
        )
        for name, signal in config.signals.items()
        if f"signals.{name}" in refused
    ]


def signal_line(found: SignalFound) -> str:
    """A signal as one line."""
    age = (
        ""
        if found.newest_age_seconds is None
        else f", newest value {duration_text(found.newest_age_seconds)} old"
    )
    fix = f"; fix: {found.fix}" if found.fix else ""
    return plain_text(f"{found.name}: {found.standing}: {found.what}{age}{fix}")
