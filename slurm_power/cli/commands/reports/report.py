"""``slurm-power report``: documents from a controller's ledger and series; each is loaded when called."""

import importlib
import importlib.util

import click

# Some draw plots and some read years of series: nobody else is to load what that needs.
_REPORTS = {
    "audit": "All that was decided in a year, for an auditor.",
    "energy": "Energy of each job, user and account, up to the PDU.",
    "event": "What was delivered in a grid event, for the utility.",
    "fairness": "Who was slowed or held, and by how much.",
    "month": "Peak, bill and savings of a month.",
    "proof": "Whether the ledger is whole.",
    "shadow": "What would have been saved and delayed, had we acted.",
    "span": "All that a state directory holds, as one page.",
}


def _module(name: str) -> str:
    return f"slurm_power.cli.commands.reports.report_{name}"


class _Group(click.Group):
    """Loads a report only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return [name for name in _REPORTS if importlib.util.find_spec(_module(name)) is not None]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        found = getattr(importlib.import_module(_module(cmd_name)), cmd_name)
        return found if isinstance(found, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List all reports without loading any."""
        with formatter.section("Reports"):
            formatter.write_dl([(name, _REPORTS[name]) for name in self.list_commands(ctx)])


@click.group(cls=_Group)
def report() -> None:
    """Write reports as HTML that prints well, CSV or JSON.

    They read powerctld's state directory, or a copy of it, and change nothing there.
    """
