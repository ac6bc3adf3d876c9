"""``slurm-power simulate``: what the planner would have done, against recorded series, jobs and events."""

import importlib

import click

from slurm_power.cli.command_group import CommandGroup

# Each is loaded when it is asked for: between them they pull in the solver, the planner and the plant.
_COMMANDS = {
    "ess": "slurm_power.cli.commands.simulations.simulate_ess",
    "event": "slurm_power.cli.commands.simulations.simulate_event",
    "jobs": "slurm_power.cli.commands.simulations.simulate_jobs",
}


class _Lazy(CommandGroup):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - as above
        module = _COMMANDS.get(cmd_name)
        if module is None:
            return None
        command: click.Command = importlib.import_module(module).command
        return command


@click.group(cls=_Lazy)
def simulate() -> None:
    """Try the planner on recorded data; nothing is connected to.

    The same planner that runs a site, in virtual time; beside each result stands what perfect foresight
    would have reached.
    """
