"""``slurm-power tiers``: model tiers, what is known of each, and which of them may be used."""

import asyncio
import dataclasses
import importlib
import os
import shutil
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape

from slurm_power import clock
from slurm_power.cli.commands.connection import json_option, print_json
from slurm_power.cli.commands.out_file import out_problems, whole_file
from slurm_power.cli.commands.quantities import plain_text
from slurm_power.cli.commands.tiers.tiers_fields import family_fields, tier_fields
from slurm_power.cli.commands.tiers.tiers_files import (
    EXIT_REFUSED,
    Catalogs,
    catalog_option,
    find_family,
    find_tier,
    load,
    refuse,
    rights_problem,
)
from slurm_power.cli.commands.tiers.tiers_words import (
    comparison_table,
    family_line,
    family_lines,
    family_table,
    place_text,
    tier_lines,
)
from slurm_power.model.tier import Catalog, Family, Tier, refusals
from slurm_power.ports import SchedulerError
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.most_gpus import most_gpus
from slurm_power.tiers.catalog import CatalogError, write_tier
from slurm_power.tiers.model_check import ModelFinding, check_models
from slurm_power.tiers.pareto import COSTS, first_known, place
from slurm_power.tiers.standing import warnings

# What builds and measures tiers needs torch, which nobody else is to load; the rest is kept by itself.
_LAZY = {
    "build": ("slurm_power.cli.commands.tiers.tiers_build", "Make lighter tiers of a model."),
    "evaluate": ("slurm_power.cli.commands.tiers.tiers_evaluate", "Measure the quality and cost of tiers."),
    "power": ("slurm_power.cli.commands.tiers.tiers_power", "Write a tier's draw, from a job's energy."),
    "publish": (
        "slurm_power.cli.commands.tiers.tiers_publish",
        "Take a user's family into the site's catalog.",
    ),
}
_PLOTS = (".html", ".svg", ".png")


class _Group(click.Group):
    """Loads the commands that need much only when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_LAZY])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _LAZY:
            return super().get_command(ctx, cmd_name)
        found = getattr(importlib.import_module(_LAZY[cmd_name][0]), cmd_name)
        return found if isinstance(found, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """List all commands without loading any."""
        rows = [(name, command.get_short_help_str(limit=80)) for name, command in self.commands.items()]
        rows += [(name, text) for name, (_, text) in _LAZY.items()]
        with formatter.section("Commands"):
            formatter.write_dl(sorted(rows))


@click.group(cls=_Group)
def tiers() -> None:
    """Build, measure and publish lighter models.

    What there is for when power is short, what each is worth, which may be used.

    A family is one task; its tiers are models for it, from the heaviest to the lightest, described in
    tiers.toml. The way of a new one: build, evaluate, power, check, publish, approve; then
    psbatch --tier FAMILY/TIER.
    """


@tiers.command(name="list")
@catalog_option
@json_option
def list_tiers(catalog_path: Path | None, as_json: bool) -> None:
    """List all families with their tiers and where each stands."""
    catalogs = load(catalog_path)
    families = list(catalogs.catalog.families.values())
    if as_json:
        print_json({"families": [family_fields(family) for family in families]})
        return
    if not families:
        click.echo(f"no tiers yet (looked in {', '.join(map(str, catalogs.files))})")
    console = Console(highlight=False)
    for number, family in enumerate(families):
        if number:
            console.print()
        console.print(f"[bold]{family.name}[/bold]{escape(family_line(family))}", soft_wrap=True)
        console.print(family_table(family))


@tiers.command()
@click.argument("name", metavar="FAMILY[/TIER]")
@catalog_option
@json_option
def show(name: str, catalog_path: Path | None, as_json: bool) -> None:
    """Show all that is known of a family or a tier.

    What speaks against a tier comes first.
    """
    catalogs = load(catalog_path)
    if "/" in name:
        family, tier = find_tier(catalogs, name)
        if as_json:
            print_json(tier_fields(family, tier, warnings(family).get(tier.name, [])))
            return
        _show_tier(Console(highlight=False), family, tier)
        return
    family = find_family(catalogs, name)
    if as_json:
        print_json(family_fields(family))
        return
    console = Console(highlight=False)
    console.print(f"[bold]{family.name}[/bold]{escape(family_line(family))}", soft_wrap=True)
    for line in family_lines(family):
        console.print(line, markup=False, soft_wrap=True)
    for tier in family.tiers:
        console.print()
        _show_tier(console, family, tier)


def _show_tier(console: Console, family: Family, tier: Tier) -> None:
    console.print(f"[bold]{family.name}/{tier.name}[/bold]")
    for line in tier_lines(family, tier):
        style = "red" if line.startswith("refused: ") else "yellow" if line.startswith("warning: ") else None
        console.print(f"  {line}", style=style, markup=False, soft_wrap=True)


@tiers.command()
@click.argument("family_name", metavar="[FAMILY]", required=False)
@catalog_option
@click.option("--no-models", is_flag=True, help="Do not read the models; their sha256 is not compared.")
@click.option("--no-slurm", is_flag=True, help="Do not ask Slurm how many GPUs there are.")
@json_option
def check(
    family_name: str | None, catalog_path: Path | None, no_models: bool, no_slurm: bool, as_json: bool
) -> None:
    """Check the catalog and the models, and say what is refused.

    Looked at are the file itself, each model's sha256, floors, subgroups, lineage, and GPUs against Slurm.
    Exit status: 0 for no refused tier, 1 where a tier is refused, 2 for problems in the file.
    """
    catalogs = load(catalog_path)
    catalog = catalogs.catalog
    if family_name is not None:
        catalog = Catalog(families={family_name: find_family(catalogs, family_name)})
    found = {} if no_models else check_models(catalog)
    gpus, unknown = (None, "") if no_slurm else _gpus_there()
    refused, said = _findings(catalog, found, gpus)
    if unknown:
        said.insert(0, {"of": "Slurm", "text": unknown})
    said[:0] = [{"of": str(file), "text": text} for file in catalogs.files if (text := rights_problem(file))]
    if as_json:
        print_json({"ok": not refused, "gpus_there": gpus, "refused": refused, "warnings": said})
        sys.exit(EXIT_REFUSED if refused else 0)
    for one in refused:
        click.echo(plain_text(f"{one['of']}: refused: {one['text']}"), err=True)
    for one in said:
        click.echo(plain_text(f"{one['of']}: warning: {one['text']}"), err=True)
    count = sum(len(family.tiers) for family in catalog.families.values())
    names = {one["of"] for one in refused}
    click.echo(f"tiers: {count}, families: {len(catalog.families)}, refused: {len(names) or 'none'}")
    sys.exit(EXIT_REFUSED if refused else 0)


def _findings(
    catalog: Catalog, models: dict[str, ModelFinding], gpus: int | None
) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """What refuses tiers, and what is only to be looked at."""
    refused, said = [], []
    for family in catalog.families.values():
        warned = warnings(family)
        said += [{"of": family.name, "text": text} for text in warned.get("", [])]
        for tier in family.tiers:
            name = f"{family.name}/{tier.name}"
            model = models.get(name, ModelFinding())
            against = [*refusals(family, tier, gpus_there=gpus), *filter(None, [model.refused])]
            refused += [{"of": name, "text": text} for text in against]
            looked = [*warned.get(tier.name, []), *filter(None, [model.unseen])]
            said += [{"of": name, "text": text} for text in looked]
    return refused, said


def _gpus_there() -> tuple[int | None, str]:
    """The most GPUs of a job, or why nobody knows."""
    if shutil.which("sinfo") is None:
        return None, "there is no sinfo here: GPUs were not compared with what there is"
    # As for Slurm's own commands.
    conf = os.environ.get("SLURM_CONF")
    try:
        return asyncio.run(most_gpus(CommandRunner(Path(conf) if conf else None))), ""
    except SchedulerError as error:
        return None, f"GPUs were not compared with what there is: {str(error)[:120]}"


@tiers.command()
@click.argument("family_name", metavar="FAMILY")
@click.option("--by", "by", type=click.Choice(list(COSTS)), help="The cost; default: the first one known.")
@click.option(
    "--output",
    "output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Plot it into a .html, .svg or .png file.",
)
@catalog_option
@json_option
def compare(
    family_name: str, by: str | None, output: Path | None, catalog_path: Path | None, as_json: bool
) -> None:
    """Compare the tiers of a family by quality and cost.

    Shown are the Pareto front and what is dominated: a tier where another one that is not refused is as
    good and costs no more, by the values as they were measured. Intervals are shown and not used.
    """
    catalogs = load(catalog_path)
    family = find_family(catalogs, family_name)
    problems = _output_problems(output, catalogs)
    cost = COSTS[by] if by is not None else first_known(family)
    if cost is None:
        problems.append(
            f"{family_name}: no cost is known of two measured tiers; measure them: slurm-power tiers evaluate"
        )
    if problems or cost is None:
        refuse(problems)
    placed = place(family, cost)
    if output is not None:
        from slurm_power.cli.commands.tiers.tiers_plot import write_plot  # noqa: PLC0415 - matplotlib

        try:
            write_plot(family, cost, placed, output)
        except OSError as error:
            refuse([f"--output: {output} cannot be written: {error.strerror}"])
    if as_json:
        rows = [
            {
                "tier": one.tier.name,
                "quality": None if one.tier.quality is None else one.tier.quality.value,
                "ci95": None if one.tier.quality is None else one.tier.quality.ci95,
                "cost": one.cost,
                "on_front": one.on_front,
                "refused": list(one.refused),
                "dominated_by": list(one.dominated_by),
                "remark": place_text(one),
            }
            for one in placed
        ]
        print_json({"family": family.name, "metric": family.metric, "by": cost.name, "tiers": rows})
        return
    console = Console(highlight=False)
    console.print(f"[bold]{family.name}[/bold]{escape(family_line(family))}", soft_wrap=True)
    console.print(comparison_table(family, cost, placed))
    if output is not None:
        click.echo(f"wrote {output}")


def _output_problems(output: Path | None, catalogs: Catalogs) -> list[str]:
    if output is None:
        return []
    if output.suffix not in _PLOTS:
        return [f"--output: {output} ends in none of {', '.join(_PLOTS)}"]
    return out_problems({"--output": output}, catalogs.files)


@tiers.command()
@click.argument("name", metavar="FAMILY/TIER")
@click.option(
    "--output",
    "output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write, such as README.md beside the model; default: print it.",
)
@catalog_option
def card(name: str, output: Path | None, catalog_path: Path | None) -> None:
    """Write a tier's model card for the Hugging Face Hub.

    Its results stand there as model-index, with subgroups, energy and how it was measured, and lineage.
    """
    catalogs = load(catalog_path)
    family, tier = find_tier(catalogs, name)
    if problems := out_problems({"--output": output}, catalogs.files):
        refuse(problems)
    from slurm_power.tiers.card import model_card  # noqa: PLC0415 - huggingface_hub

    text = model_card(family, tier)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        with whole_file(output) as file:
            file.write(text)
    except OSError as error:
        refuse([f"--output: {output} cannot be written: {error.strerror}"])
    click.echo(f"wrote {output}")


@tiers.command()
@click.argument("name", metavar="FAMILY/TIER")
@click.option("--by", "by", required=True, help="Who answers for it: a person or a group.")
@catalog_option
def approve(name: str, by: str, catalog_path: Path | None) -> None:
    """Approve a tier, so that jobs may be moved to it.

    A refused tier cannot be approved. Its model is read and must be the one of the catalog. Building it
    anew ends the approval.
    """
    catalogs = load(catalog_path)
    family, tier = find_tier(catalogs, name)
    one = Catalog(families={family.name: dataclasses.replace(family, tiers=(tier,))})
    model = check_models(one).get(name, ModelFinding())
    against = [*refusals(family, tier), *filter(None, [model.refused])]
    if tier.model_path and not tier.sha256:
        against.append("its model has no sha256, so nobody could tell later what was approved")
    if not by.strip():
        against.append("--by: missing; say who answers for it")
    if against:
        refuse(f"{name} is not approved: {text}" for text in against)
    approved = dataclasses.replace(tier, approved_by=by.strip(), approved_date=clock.now().date())
    file = catalogs.file_of(family.name)
    try:
        write_tier(file, family, approved)
    except CatalogError as error:
        refuse(f"{file}: {problem}" for problem in error.problems)
    click.echo(f"{name} is approved by {by.strip()}, in {file}")
    for text in filter(None, [model.unseen, *warnings(family).get(tier.name, [])]):
        click.echo(plain_text(f"{name}: warning: {text}"), err=True)
