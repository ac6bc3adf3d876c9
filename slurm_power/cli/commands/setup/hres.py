"""``slurm-power hres``: the circuit tree as Slurm's resources.yaml."""

import asyncio
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

import click

from slurm_power.cli.commands.out_file import out_problems
from slurm_power.cli.commands.quantities import Watts
from slurm_power.cli.commands.setup.check import EXIT_PROBLEMS, config_option
from slurm_power.config import ConfigError, SiteConfig, load_site
from slurm_power.plan.hres import HresError, HresTree, hres_tree
from slurm_power.ports import SchedulerError
from slurm_power.slurm.commands import CommandRunner
from slurm_power.slurm.hostlist import expand
from slurm_power.slurm.hres_file import FIRST_VERSION, ask_slurm, hres_text, resource_problems, write_whole

MOST_STANDING_WATTS = 100_000.0


@dataclass(frozen=True, slots=True)
class _Cluster:
    """What of Slurm the file depends on; ``version`` None: nobody was asked."""

    version: tuple[int, int, int] | None
    nodes: tuple[str, ...]
    licences: tuple[str, ...]


@click.command()
@config_option
@click.option(
    "--node-standing-watts",
    type=Watts(),
    required=True,
    metavar="WATTS",
    help="What a node draws while no job runs: jobs ask only for what they add to it.",
)
@click.option(
    "--standing",
    multiple=True,
    metavar="CIRCUIT=WATTS",
    help="What a circuit feeds beside nodes of Slurm, such as cooling; may be given several times.",
)
@click.option(
    "--resource", default="power", show_default=True, help="Name that jobs ask for: sbatch -L NAME:WATTS."
)
@click.option("--nodes", metavar="LIST", help="Slurm's nodes, such as c[1-4]; default: Slurm is asked.")
@click.option(
    "--out", type=click.Path(path_type=Path), help="File to write, beside slurm.conf; default: print it."
)
def hres(
    *,
    file: Path,
    node_standing_watts: float,
    standing: tuple[str, ...],
    resource: str,
    nodes: str | None,
    out: Path | None,
) -> None:
    """Write safety limits as a hierarchical resource of Slurm.

    Slurm's own scheduler then keeps them.

    For Slurm 25.11 and newer (resources.yaml, mode 3). A job asks for the watts that it adds at each of its
    nodes. Slurm reads the file on `scontrol reconfigure`, which is left to you. Exit status 2 for problems.
    """
    problems = [] if out is None else out_problems({"--out": out}, [file])
    if node_standing_watts > MOST_STANDING_WATTS:
        problems.append(f"--node-standing-watts: {node_standing_watts:g} W is more than any node draws")
    watts = _standing(standing, problems)
    config = _config(file, problems)
    cluster = _cluster(nodes, config, problems)
    if problems or config is None or cluster is None:
        _refuse(problems)
    try:
        tree = hres_tree(
            config.site,
            cluster.nodes,
            resource=resource,
            node_standing_watts=node_standing_watts,
            standing_watts=watts,
        )
    except HresError as error:
        _refuse([f"{file}: {problem}" for problem in error.problems])
    problems = [f"--resource: {problem}" for problem in resource_problems(tree, cluster.licences)]
    if problems:
        _refuse(problems)
    _write(tree, cluster, out)


def _write(tree: HresTree, cluster: _Cluster, out: Path | None) -> None:
    text = hres_text(tree)
    for note in (*tree.notes, *_version_notes(cluster.version)):
        click.echo(f"note: {note}", err=True)
    if out is None:
        click.echo(text, nl=False)
        return
    try:
        if out.exists() and out.read_text(errors="replace") == text:
            click.echo(f"{out}: is up to date")
            return
        write_whole(out, text)
    except OSError as error:
        _refuse([f"--out: {out} cannot be written: {error.strerror}"])
    click.echo(f"{out}: written; let Slurm read it with: scontrol reconfigure")


def _refuse(problems: Sequence[str]) -> NoReturn:
    for problem in problems:
        click.echo(f"Error: {problem}", err=True)
    sys.exit(EXIT_PROBLEMS)


def _standing(words: Sequence[str], problems: list[str]) -> dict[str, float]:
    found: dict[str, float] = {}
    for word in words:
        name, equals, value = word.rpartition("=")
        try:
            watts = Watts().convert(value, None, None)
        except click.BadParameter:
            equals = ""
            watts = 0.0
        if not equals or not name:
            problems.append(f"--standing: {word!r} is no CIRCUIT=WATTS; write grid=8kW")
        elif name in found:
            problems.append(f"--standing: {name} is given twice")
        found[name] = watts
    return found


def _config(file: Path, problems: list[str]) -> SiteConfig | None:
    try:
        return load_site(file)
    except ConfigError as error:
        problems += [f"{file}: {problem}" for problem in error.problems]
        return None


def _cluster(nodes: str | None, config: SiteConfig | None, problems: list[str]) -> _Cluster | None:
    if nodes is not None:
        try:
            return _Cluster(None, expand(nodes), ())
        except ValueError as error:
            problems.append(f"--nodes: {error}")
            return None
    if config is None:
        return None
    # As for Slurm's own commands, where site.toml leaves it open.
    own = os.environ.get("SLURM_CONF")
    conf = config.controller.slurm_conf or (Path(own) if own else None)
    try:
        found = _Cluster(*asyncio.run(ask_slurm(CommandRunner(conf))))
    except SchedulerError as error:
        problems.append(f"Slurm cannot be asked for its nodes ({error}); say them with --nodes")
        return None
    if found.version is not None and found.version[:2] < FIRST_VERSION:
        have, want = (
            ".".join(f"{part:02d}" for part in version) for version in (found.version[:2], FIRST_VERSION)
        )
        problems.append(
            f"Slurm {have} knows no such resources, {want} is the first; licences do without (docs/admins.md)"
        )
    return found


def _version_notes(version: tuple[int, int, int] | None) -> list[str]:
    """Known bugs of the Slurm that was asked."""
    if version is None or version >= (26, 5, 2) or (26, 5, 0) > version >= (25, 11, 7):
        return []
    text = "crashes on job arrays that ask for such a resource; 25.11.7 and 26.05.2 do not"
    return [f"Slurm {version[0]}.{version[1]:02d}.{version[2]} {text}"]
