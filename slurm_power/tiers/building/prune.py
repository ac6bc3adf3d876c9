"""Prune a tier: whole channels and units go, the least important first, and the rest is tuned."""

import contextlib
import copy
import importlib
import io
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from slurm_power.model.tier import TierMethod
from slurm_power.tiers.building.build import Built, Order, Parent, count_parameters, deliver, float_parent
from slurm_power.tiers.building.ending import BuildError
from slurm_power.tiers.building.fit import Recipe, fit, validate
from slurm_power.tiers.building.rows import read_data
from slurm_power.tiers.building.work_folder import WorkFolder

TUNING = Recipe(epochs=6, learning_rate=1e-3)
_TRACED_ROWS = 2


def prune(
    order: Order,
    *,
    parent: Parent,
    ratio: float = 0.5,
    keep: Sequence[str] = (),
    round_to: int = 1,
    recipe: Recipe = TUNING,
) -> Built:
    """Take ``ratio`` of the channels out of every layer of ``parent`` and train the rest again.

    The channels that belong together are found by tracing (DepGraph, Fang et al. 2023, arXiv:2301.12900) and
    ranked by the norm of their weights. Layers that make the model's output keep their width, and those named
    in ``keep``. Without training again a pruned model is of no use: ``recipe`` has one epoch at least.
    ``round_to``: widths that are multiples of this. Raises BuildError, ArtifactError, Stopped.
    """
    if not 0.0 < ratio < 1.0:
        raise BuildError(f"ratio is {ratio}; it must be above 0 and below 1")
    if round_to < 1:
        raise BuildError(f"round-to is {round_to}; it must be 1 or more")
    options = {"ratio": ratio, "keep": list(keep), "round_to": round_to}
    settings = order.settings("prune", recipe, parent=parent.sha256, **options)
    with WorkFolder(order.output, settings, replace=order.replace) as work:
        data = read_data(order.task)
        source = float_parent(parent, "prune")
        before = validate(source, order.task, data.validation)
        model = pruned(source, data.train.inputs[:_TRACED_ROWS], ratio=ratio, keep=keep, round_to=round_to)
        untuned = validate(model, order.task, data.validation)
        order.progress.note(
            f"pruned from {count_parameters(source):,} to {count_parameters(model):,} parameters;"
            f" validation {order.task.metric} {before:.4g}, after pruning {untuned:.4g}"
        )
        fitted = fit(model, order.task, data, recipe, around=order.around(work))
        notes: tuple[str, ...] = ()
        if fitted.validation != before and order.task.at_least(fitted.validation, before):
            notes = (f"better than its parent on the validation rows ({before:.4g})",)
        return deliver(
            order,
            work,
            model,
            data,
            method=TierMethod.PRUNED,
            shape=parent.description.shape,
            parent=parent,
            fitted=fitted,
            recipe=recipe,
            options=options,
            notes=notes,
        )


def pruned(
    model: nn.Module, example: Tensor, *, ratio: float, keep: Sequence[str] = (), round_to: int = 1
) -> nn.Module:
    """Return a copy with ``ratio`` of the channels gone; raises BuildError where the model cannot be traced.

    ``example`` are a few rows as the model takes them.
    """
    copied = copy.deepcopy(model).eval()
    layers = dict(copied.named_modules())
    unknown = [name for name in keep if name not in layers]
    if unknown:
        known = ", ".join(filter(None, layers))
        raise BuildError(f"keep: the model has no {', '.join(unknown)}; it has {known}")
    outputs, shape = _output_layers(copied, example)
    library = importlib.import_module("torch_pruning")
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # of parameters that belong to no layer, which stay as they are
        try:
            library.pruner.BasePruner(
                copied,
                example,
                importance=library.importance.GroupMagnitudeImportance(p=2),
                pruning_ratio=ratio,
                ignored_layers=[*outputs, *(layers[name] for name in keep)],
                round_to=round_to,
            ).step()
            with torch.no_grad():
                after = copied(example).shape
        except Exception as error:
            raise BuildError(
                f"the model cannot be pruned: {type(error).__name__}: {error}: name layers that must keep"
                " their width with --keep"
            ) from error
    if after != shape:
        raise BuildError(
            f"pruning turned outputs of {tuple(shape)} into {tuple(after)}: name the last layer with --keep"
        )
    if count_parameters(copied) >= count_parameters(model):
        raise BuildError("no channel could be pruned: a higher --ratio, a lower --round-to, or fewer --keep")
    return copied


def _output_layers(model: nn.Module, example: Tensor) -> tuple[list[nn.Module], torch.Size]:
    """The layers whose own output is the model's, and the shape of that."""
    last: list[tuple[nn.Module, Tensor]] = []

    def note(module: nn.Module, _inputs: object, output: object) -> None:
        if isinstance(output, Tensor):
            last.append((module, output))

    hooks = [module.register_forward_hook(note) for module in model.modules() if not list(module.children())]
    try:
        with torch.no_grad():
            made = model(example)
    finally:
        for hook in hooks:
            hook.remove()
    if not isinstance(made, Tensor):
        raise BuildError(f"the model returns a {type(made).__name__}: methods here need one tensor")
    return [module for module, output in last if output.data_ptr() == made.data_ptr()], made.shape
