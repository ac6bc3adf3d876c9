"""`slurm-power tiers build METHOD TASK`: make a tier of a model, by itself or from a heavier one."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slurm_power.cli.command_group import CommandGroup
from slurm_power.cli.commands.tiers.tiers_build_order import (
    OrderError,
    Place,
    add_to_catalog,
    floor_of,
    missing_packages,
    parent_folder,
    place,
    shape_of,
)
from slurm_power.tiers.catalog import CatalogError
from slurm_power.tiers.task import Task, TaskError, load_task

if TYPE_CHECKING:
    from slurm_power.tiers.building.build import Built, Order, Parent
    from slurm_power.tiers.building.fit import Recipe

Command = Callable[..., None]
_REFUSED, _FAILED = 2, 1


@click.group(cls=CommandGroup)
def build() -> None:
    """Build a tier: train, quantize, prune, distil, or search one.

    TASK is module:object or file.py:object, such as slurm_power.tiers.examples.digits:digits. Each
    writes a folder with the model, its origin (tier.json) and how training went (training.jsonl). Ctrl-C and
    SIGTERM lose at most one epoch or trial: the same command goes on. Exit status: 0 built, 1 tried in vain,
    2 refused, 130 or 143 stopped, 85 stopped by SIGUSR2 (to be queued again).
    """


def _placed(command: Command) -> Command:
    """The options that every method has."""
    for option in reversed(
        (
            click.argument("task"),
            click.option("--family", required=True, help="Family of the tier, such as digits."),
            click.option("--tier", required=True, help="Name of the tier, such as int8."),
            click.option(
                "--output", required=True, type=click.Path(path_type=Path), help="Folder of the tier."
            ),
            click.option(
                "--catalog",
                type=click.Path(dir_okay=False, path_type=Path),
                help="Add the tier to this tiers.toml; its power and quality are unknown until measured.",
            ),
            click.option("--licence", default="", help="Licence of the model, for the catalog."),
            click.option(
                "--floor", type=float, help="Worst value allowed of the metric; else the catalog's."
            ),
            click.option(
                "--seed", type=int, default=0, show_default=True, help="The same seed, the same tier."
            ),
            click.option(
                "--device", default="cpu", show_default=True, help="Where to train: cpu, cuda, cuda:1."
            ),
            click.option(
                "--replace", is_flag=True, help="Replace the tier, and unfinished work of other options."
            ),
        )
    ):
        command = option(command)
    return command


def _trained(command: Command) -> Command:
    """The options of whatever trains; what is not said is as the method has it."""
    for option in reversed(
        (
            click.option("--epochs", type=int, help="Times through the train rows."),
            click.option("--batch-size", type=int, help="Rows of a step."),
            click.option("--learning-rate", type=float, help="Highest learning rate."),
            click.option("--weight-decay", type=float, help="Weight decay of AdamW."),
        )
    ):
        command = option(command)
    return command


_shape = click.option(
    "--shape", multiple=True, metavar="NAME=NUMBER", help="Differs from the task's; repeatable."
)
_parent = click.option("--parent", required=True, help="Tier of the family, or folder, that it is made from.")
_mixture = (
    click.option(
        "--temperature", type=float, default=4.0, show_default=True, help="Softens the teacher's words."
    ),
    click.option(
        "--mixture", type=float, default=0.7, show_default=True, help="Share of the teacher, 0 to 1."
    ),
)


@build.command()
@_placed
@_shape
@_trained
def full(**said: Any) -> None:
    """Train the reference, or a smaller model by itself."""

    def make(job: "_Job") -> "Built | None":
        from slurm_power.tiers.building.fit import Recipe  # noqa: PLC0415 - loads torch
        from slurm_power.tiers.building.full import full as method  # noqa: PLC0415 - the same

        return method(job.order, shape=shape_of(said["shape"]), recipe=job.recipe(Recipe()))

    _run("full", said, make)


@build.command()
@_placed
@_parent
@click.option(
    "--scheme",
    default="int8",
    show_default=True,
    help="int8 (CPU), int8-weight-only, int8-dynamic, int4-weight-only (torchao, for GPUs).",
)
def quantize(**said: Any) -> None:
    """Turn the weights of dense layers into integers."""

    def make(job: "_Job") -> "Built | None":
        from slurm_power.tiers.building.quantize import quantize as method  # noqa: PLC0415 - loads torch

        return method(job.order, parent=job.parent(), scheme=said["scheme"])

    _run("quantize", said, make)


@build.command()
@_placed
@_parent
@click.option("--ratio", type=float, default=0.5, show_default=True, help="Share of the channels that go.")
@click.option("--keep", multiple=True, metavar="LAYER", help="Layer that keeps its width; repeatable.")
@click.option("--round-to", type=int, default=1, show_default=True, help="Widths are multiples of this.")
@_trained
def prune(**said: Any) -> None:
    """Take whole channels out and tune what is left."""

    def make(job: "_Job") -> "Built | None":
        from slurm_power.tiers.building import prune as module  # noqa: PLC0415 - loads torch

        return module.prune(
            job.order,
            parent=job.parent(),
            ratio=said["ratio"],
            keep=said["keep"],
            round_to=said["round_to"],
            recipe=job.recipe(module.TUNING),
        )

    _run("prune", said, make)


@build.command()
@_placed
@_parent
@_shape
@_mixture[0]
@_mixture[1]
@click.option(
    "--features", default="", help="LAYER or STUDENT_LAYER=TEACHER_LAYER whose outputs are followed."
)
@click.option("--feature-weight", type=float, default=1.0, show_default=True, help="Weight of that.")
@_trained
def distill(**said: Any) -> None:
    """Let a smaller student learn from a teacher."""

    def make(job: "_Job") -> "Built | None":
        from slurm_power.tiers.building import distill as module  # noqa: PLC0415 - loads torch

        return module.distill(
            job.order,
            parent=job.parent(),
            shape=shape_of(said["shape"]),
            temperature=said["temperature"],
            mixture=said["mixture"],
            features=said["features"],
            feature_weight=said["feature_weight"],
            recipe=job.recipe(module.STUDENT),
        )

    _run("distill", said, make)


@build.command()
@_placed
@click.option("--parent", help="Tier that the chosen shape is distilled from; none: it learns by itself.")
@click.option(
    "--trials", type=int, default=20, show_default=True, help="Shapes to try, all processes together."
)
@click.option("--trial-epochs", type=int, default=6, show_default=True, help="Epochs of a trial.")
@click.option(
    "--population", type=int, default=6, show_default=True, help="Trials of a generation (NSGA-II)."
)
@click.option(
    "--objective",
    "objectives",
    multiple=True,
    help="What is made small beside the quality: multiply_adds, cpu_seconds, latency_seconds; repeatable;"
    " the first two if not said.",
)
@click.option(
    "--choose", default="lightest", show_default=True, help="Of those above the floor: lightest, best."
)
@_mixture[0]
@_mixture[1]
@click.option("--shared", is_flag=True, help="Share the trials with others who run the same command.")
@_trained
def search(**said: Any) -> None:
    """Search for a lighter shape above the floor.

    What may be chosen is what the task's space() says.
    """

    def make(job: "_Job") -> "Built | None":
        from slurm_power.tiers.building import search as module  # noqa: PLC0415 - loads torch
        from slurm_power.tiers.building.trials import DEFAULT_OBJECTIVES  # noqa: PLC0415 - the same

        return module.search(
            job.order,
            parent=job.parent() if said["parent"] else None,
            trials=said["trials"],
            trial_epochs=said["trial_epochs"],
            population=said["population"],
            objectives=said["objectives"] or DEFAULT_OBJECTIVES,
            choose=said["choose"],
            temperature=said["temperature"],
            mixture=said["mixture"],
            shared=said["shared"],
            recipe=job.recipe(module.CHOSEN),
        )

    if said["shared"] and not said["replace"] and (said["output"] / "tier.json").is_file():
        click.echo(f"{said['family']}/{said['tier']} is in {said['output']} already")
        return
    _run("search", said, make)


class _Job:
    """The words of one command, as the building functions take them."""

    def __init__(self, said: dict[str, Any], where: Place, order: "Order") -> None:
        self._said, self._where, self.order = said, where, order

    def recipe(self, usual: "Recipe") -> "Recipe":
        """The method's recipe with what was said."""
        from dataclasses import replace  # noqa: PLC0415 - beside the rest of it

        names = ("epochs", "batch_size", "learning_rate", "weight_decay")
        chosen = {name: self._said[name] for name in names if self._said[name] is not None}
        return replace(usual, seed=self.order.seed, device=self.order.device, **chosen)

    def parent(self) -> "Parent":
        """The tier it is made from, loaded."""
        from slurm_power.tiers.building.build import open_parent  # noqa: PLC0415 - loads torch

        name, folder, sha256 = parent_folder(self._said["parent"], self._where)
        return open_parent(name, folder, self.order.task, sha256=sha256)


def _run(method: str, said: dict[str, Any], make: Callable[[_Job], "Built | None"]) -> None:
    """Make the order, let it be built, and say what came of it."""
    missing = missing_packages(method)
    if missing:
        _end(missing, _FAILED)
    from slurm_power.tiers.building.artifact import ArtifactError  # noqa: PLC0415 - loads torch
    from slurm_power.tiers.building.build import Order, use_threads  # noqa: PLC0415 - the same
    from slurm_power.tiers.building.ending import BuildError, Stopped, StopWish  # noqa: PLC0415 - the same
    from slurm_power.tiers.building.progress import progress_on  # noqa: PLC0415 - the same
    from slurm_power.tiers.building.quantizers import QuantizeError  # noqa: PLC0415 - the same

    try:
        with StopWish() as stop, progress_on(sys.stderr) as progress:
            task = load_task(said["task"])
            where = place(
                family=said["family"],
                tier=said["tier"],
                output=said["output"],
                catalog=said["catalog"],
                task=task,
                licence=said["licence"],
            )
            floor = floor_of(said["floor"], where)
            use_threads()
            order = Order(
                task_spec=said["task"],
                task=task,
                tier=where.tier,
                output=where.output,
                seed=said["seed"],
                floor=floor,
                device=said["device"],
                replace=said["replace"],
                command=shlex.join(["slurm-power", *sys.argv[1:]]),
                progress=progress,
                stop=stop,
            )
            built = make(_Job(said, where, order))
            if built is not None:
                add_to_catalog(where, task, built, floor)
    except Stopped as stopped:
        click.echo(f"{stopped}: the same command goes on from what is kept", err=True)
        sys.exit(stopped.exit_status)
    except BuildError as error:
        _end(str(error), _FAILED if error.failed else _REFUSED)
    except (OrderError, TaskError, ArtifactError, QuantizeError) as error:
        _end(str(error), _FAILED if isinstance(error.__cause__, OSError) else _REFUSED)
    except CatalogError as error:
        _end(f"catalog {said['catalog']}: " + "; ".join(error.problems), _REFUSED)
    except OSError as error:
        _end(f"{error.filename or said['output']}: {error.strerror or error}", _FAILED)
    if built is not None:
        _say(where, task, built)


def _say(where: Place, task: Task, built: "Built") -> None:
    click.echo(
        f"{where.full_name} ({built.method.value}) in {built.directory}: validation {task.metric}"
        f" {built.validation:.4f}, {built.model_bytes:,} bytes, {built.multiply_adds:,} multiply-adds"
    )
    click.echo(f"sha256 {built.sha256}")


def _end(message: str, status: int) -> None:
    click.echo(f"Error: {message}", err=True)
    sys.exit(status)
