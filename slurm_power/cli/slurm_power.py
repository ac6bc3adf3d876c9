"""slurm-power: the terminal of users and operators."""

import errno
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import ClassVar

import click

from slurm_power import __version__
from slurm_power.cli.command_group import SectionedGroup
from slurm_power.cli.commands.jobs.jobs import jobs
from slurm_power.cli.commands.reports.export import export
from slurm_power.cli.commands.reports.report import report
from slurm_power.cli.commands.setup.authority import ca
from slurm_power.cli.commands.setup.check import check, show_config
from slurm_power.cli.commands.setup.commission import commission
from slurm_power.cli.commands.setup.hres import hres
from slurm_power.cli.commands.setup.init import init
from slurm_power.cli.commands.setup.store import store
from slurm_power.cli.commands.setup.uninstall import uninstall
from slurm_power.cli.commands.setup.web import web
from slurm_power.cli.commands.simulations.backtest import backtest
from slurm_power.cli.commands.simulations.backtest_jobs import backtest_jobs
from slurm_power.cli.commands.simulations.simulate import simulate
from slurm_power.cli.commands.site.advise import advise
from slurm_power.cli.commands.site.alerts import alerts
from slurm_power.cli.commands.site.control import control, release_all
from slurm_power.cli.commands.site.event import cancel_event, event, yield_node
from slurm_power.cli.commands.site.event_report import event_report, events
from slurm_power.cli.commands.site.forecast import forecast
from slurm_power.cli.commands.site.ledger import ledger, why
from slurm_power.cli.commands.site.plan import plan
from slurm_power.cli.commands.site.policy import appeal, policy
from slurm_power.cli.commands.site.sources import sources
from slurm_power.cli.commands.site.status import status
from slurm_power.cli.commands.site.top import top
from slurm_power.cli.commands.site.weights import weights
from slurm_power.cli.commands.tiers.gateway import gateway
from slurm_power.cli.commands.tiers.tiers import tiers

# What an installation for operators alone does not have, by the extra that brings it.
_EXTRAS = {
    "controller": ("numpy", "highspy", "cryptography", "pymodbus", "pysnmp", "sunspec2"),
    "forecast": ("statsmodels",),
    "report": ("matplotlib",),
    "parquet": ("pyarrow",),
    "web": ("starlette", "uvicorn"),
    "tiers": ("huggingface_hub", "optuna", "safetensors", "torch", "torch_pruning"),
    "evaluation": ("fairlearn", "sklearn"),
    "tiers-gpu": ("torchao",),
}
# What a full disk behind > says; a report's own file is written elsewhere, whole or not at all.
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def run() -> None:
    """Run the command line; a terminal that knows no dash or arrow gets a question mark."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        main()
    except ModuleNotFoundError as error:
        package = str(error.name).partition(".")[0]
        extra = next((extra for extra, packages in _EXTRAS.items() if package in packages), None)
        if extra is None:
            raise
        click.echo(f"Error: this needs {package}: pip install 'slurm-power[{extra}]'", err=True)
        sys.exit(1)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        # What is in the buffer still would fail once more at the exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        click.echo(f"Error: {error.strerror}; what was printed is not whole", err=True)
        sys.exit(1)


# What is found under which heading of --help; within one the most used first.
SECTIONS = {
    "See the site": (status, top, forecast, plan, ledger, alerts, events, event_report, sources, policy),
    "Your jobs": (jobs, why, appeal, advise),
    "Operate it": (event, cancel_event, control, release_all, weights, yield_node),
    "Reports and data": (report, export),
    "Install and maintain": (init, check, show_config, ca, commission, hres, web, store, uninstall),
    "Model tiers and services": (tiers, gateway),
    "Try it on recorded data": (simulate, backtest, backtest_jobs),
}


class _Commands(SectionedGroup):
    """All commands, by purpose."""

    sections: ClassVar[Mapping[str, Sequence[str]]] = {
        heading: [str(command.name) for command in commands] for heading, commands in SECTIONS.items()
    }


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="slurm-power")
def main() -> None:
    """Power of a Slurm site: what it draws, what is done about it, and why."""


for _command in (command for commands in SECTIONS.values() for command in commands):
    main.add_command(_command)


if __name__ == "__main__":
    run()
