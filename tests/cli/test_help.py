"""``--help`` of all commands: each is found under one heading, and none says half a sentence."""

from collections.abc import Iterator

import click
from click.testing import CliRunner

from slurm_power.cli.slurm_power import SECTIONS, main


def groups(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    """The words that lead to each group of commands."""
    if isinstance(command, click.Group):
        yield path
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            if inner is not None:
                yield from groups(inner, *path, name)


def helped(*words: str) -> str:
    done = CliRunner().invoke(main, [*words, "--help"], terminal_width=80)
    assert done.exit_code == 0, done.output
    return done.output


def test_no_group_cuts_a_sentence_off() -> None:
    cut = {
        " ".join(path): line
        for path in groups(main)
        for line in helped(*path).splitlines()
        if line.endswith("...") and not line.startswith("Usage:")
    }
    assert not cut


def test_each_command_is_under_one_heading_on_one_line() -> None:
    said = helped()
    names = [str(command.name) for commands in SECTIONS.values() for command in commands]
    assert sorted(names) == main.list_commands(click.Context(main)) and len(names) == len(set(names))
    rows = [line for line in said.partition("See the site:")[2].splitlines() if line.startswith("  ")]
    assert [line.split()[0] for line in rows] == names, "a sentence that takes two lines"
    assert all(f"\n{heading}:\n" in said for heading in SECTIONS)
