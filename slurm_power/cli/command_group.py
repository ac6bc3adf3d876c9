"""Groups of commands whose ``--help`` lists each with a whole sentence, and many of them by purpose."""

from collections.abc import Mapping, Sequence
from typing import ClassVar

import click

# Longer than any first sentence: the formatter wraps it, and click would cut it off.
_WHOLE_SENTENCE = 1000


class CommandGroup(click.Group):
    """Lists its commands with the first sentence of each one's help."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands under one heading."""
        self.write_section(ctx, formatter, "Commands", self.list_commands(ctx))

    def write_section(
        self, ctx: click.Context, formatter: click.HelpFormatter, heading: str, names: Sequence[str]
    ) -> None:
        """List the commands ``names`` under a heading."""
        found = [(name, self.get_command(ctx, name)) for name in names]
        rows = [
            (name, command.get_short_help_str(_WHOLE_SENTENCE))
            for name, command in found
            if command is not None and not command.hidden
        ]
        with formatter.section(heading):
            formatter.write_dl(rows)


class SectionedGroup(CommandGroup):
    """Lists its commands by purpose. ``sections``: the names of all its commands, by heading."""

    sections: ClassVar[Mapping[str, Sequence[str]]] = {}

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List each section's commands in its own order."""
        for heading, names in self.sections.items():
            self.write_section(ctx, formatter, heading, names)
