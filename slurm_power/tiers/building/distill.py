"""Distil a tier: a smaller student learns what the teacher says of each row, beside the true targets."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from slurm_power.model.tier import TierMethod
from slurm_power.tiers.building.build import Built, Order, Parent, count_parameters, deliver, float_parent
from slurm_power.tiers.building.ending import BuildError
from slurm_power.tiers.building.fit import Objective, Recipe, fit, seed_everything, validate
from slurm_power.tiers.building.rows import Data, read_data
from slurm_power.tiers.building.structure import scheme_of
from slurm_power.tiers.building.work_folder import WorkFolder
from slurm_power.tiers.task import Task, full_shape

STUDENT = Recipe(epochs=24, learning_rate=3e-3)
_AT_ONCE = 256


class Distillation(Objective):
    """A mixture of the teacher's softened answers and the task's own loss.

    mixture * T^2 * KL(teacher / T || student / T) + (1 - mixture) * loss, T the temperature (Hinton et al.
    2015, arXiv:1503.02531). With ``features`` (a layer of the student and one of the teacher) the mean
    squared difference of the two layers' normalised outputs is added, the student's through a learnt
    projection (FitNets, Romero et al. 2015, arXiv:1412.6550). The teacher answers all rows once.
    """

    def __init__(
        self,
        task: Task,
        teacher: nn.Module,
        inputs: Tensor,
        *,
        temperature: float,
        mixture: float,
        device: str = "cpu",
    ) -> None:
        super().__init__(task)
        self.temperature, self.mixture, self.feature_weight = temperature, mixture, 0.0
        self.projection: nn.Module = nn.Identity()
        # In tuples: neither the teacher nor what it said is part of what is trained and saved.
        self._teacher = (teacher.to(device).eval(),)
        self._said = (_answers(teacher, inputs, device),)
        self._layers: tuple[_Tap, ...] = ()

    def add_features(
        self, student: nn.Module, student_layer: str, teacher_layer: str, example: Tensor, weight: float
    ) -> None:
        """Let a layer of the student follow one of the teacher; raises BuildError where that cannot be."""
        mine = _Tap(student, student_layer, "student")
        theirs = _Tap(self._teacher[0], teacher_layer, "teacher")
        with torch.no_grad():
            student.eval()(example)
            self._teacher[0](example.to(next(self._teacher[0].parameters()).device))
        here, there = mine.take(), theirs.take()
        if here.shape[:-1] != there.shape[:-1]:
            raise BuildError(
                f"features: {student_layer} gives {tuple(here.shape)}, {teacher_layer} {tuple(there.shape)}"
                " (rows by width): only the widths may differ"
            )
        self._layers = (mine, theirs)
        self.projection, self.feature_weight = nn.Linear(here.shape[-1], there.shape[-1], bias=False), weight

    def forward(self, model: nn.Module, rows: Tensor, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the mixture for a batch."""
        outputs = model(inputs)
        said = self._said[0][rows].to(outputs.device)
        soft = functional.kl_div(
            (outputs / self.temperature).log_softmax(-1).flatten(0, -2),
            (said / self.temperature).log_softmax(-1).flatten(0, -2),
            reduction="batchmean",
            log_target=True,
        )
        hard = self.task.loss(outputs, targets)
        loss = self.mixture * self.temperature**2 * soft + (1.0 - self.mixture) * hard
        if not self._layers:
            return loss
        with torch.no_grad():
            self._teacher[0](inputs)
        mine, theirs = (tap.take() for tap in self._layers)
        difference = functional.mse_loss(
            functional.normalize(self.projection(mine), dim=-1), functional.normalize(theirs, dim=-1)
        )
        return loss + self.feature_weight * theirs.shape[-1] * difference


def distill(
    order: Order,
    *,
    parent: Parent,
    shape: Mapping[str, int | float],
    temperature: float = 4.0,
    mixture: float = 0.7,
    features: str = "",
    feature_weight: float = 1.0,
    recipe: Recipe = STUDENT,
) -> Built:
    """Train a student of ``shape`` to follow ``parent``.

    ``shape`` are the numbers that differ from the task's own. ``features`` is ``LAYER`` or
    ``STUDENT_LAYER=TEACHER_LAYER``, empty for none. Notes a student larger or better than its teacher. Raises
    TaskError (unknown shape), BuildError, ArtifactError, Stopped.
    """
    _check(temperature, mixture, feature_weight)
    task = order.task
    chosen = full_shape(task, shape)
    options: dict[str, Any] = {"temperature": temperature, "mixture": mixture, "features": features}
    if features:
        options["feature_weight"] = feature_weight
    settings = order.settings("distill", recipe, shape=chosen, parent=parent.sha256, **options)
    with WorkFolder(order.output, settings, replace=order.replace) as work:
        data = read_data(task)
        teacher = parent.model
        seed_everything(recipe.seed)
        student = task.new_model(**chosen)
        objective = distillation(
            task, teacher, data, temperature=temperature, mixture=mixture, device=recipe.device
        )
        if features:
            float_parent(parent, "distill")
            here, _, there = features.partition("=")
            objective.add_features(student, here, there or here, data.train.inputs[:2], feature_weight)
        notes = _larger(student, teacher, parent)
        fitted = fit(student, task, data, recipe, objective=objective, around=order.around(work))
        before = validate(teacher.to("cpu"), task, data.validation)
        if fitted.validation != before and task.at_least(fitted.validation, before):
            notes += (f"better than its teacher on the validation rows ({before:.4g})",)
        return deliver(
            order,
            work,
            student,
            data,
            method=TierMethod.DISTILLED,
            shape=chosen,
            parent=parent,
            fitted=fitted,
            recipe=recipe,
            options=options,
            structure=[],
            notes=notes,
        )


def distillation(
    task: Task, teacher: nn.Module, data: Data, *, temperature: float, mixture: float, device: str = "cpu"
) -> Distillation:
    """The objective of a student of that teacher on the train rows."""
    return Distillation(
        task, teacher, data.train.inputs, temperature=temperature, mixture=mixture, device=device
    )


class _Tap:
    """The last output of a layer as rows by width: the channels of convolutions come last."""

    def __init__(self, model: nn.Module, layer: str, whose: str) -> None:
        modules = dict(model.named_modules())
        if layer not in modules or not layer:
            raise BuildError(
                f"features: the {whose} has no layer {layer!r}; it has {', '.join(filter(None, modules))}"
            )
        self._layer, self._output = layer, torch.empty(0)
        modules[layer].register_forward_hook(self._note)

    def take(self) -> Tensor:
        """The output of the last call."""
        output = self._output
        return output.movedim(1, -1).flatten(0, -2) if output.dim() > 3 else output.flatten(0, -2)

    def _note(self, _module: nn.Module, _inputs: object, output: object) -> None:
        if not isinstance(output, Tensor):
            raise BuildError(f"features: layer {self._layer} gives no tensor; name another")
        self._output = output


def _answers(teacher: nn.Module, inputs: Tensor, device: str) -> Tensor:
    with torch.no_grad():
        return torch.cat([teacher(part.to(device)).cpu() for part in torch.split(inputs, _AT_ONCE)])


def _larger(student: nn.Module, teacher: nn.Module, parent: Parent) -> tuple[str, ...]:
    mine, theirs = count_parameters(student), count_parameters(teacher)
    if mine < theirs or scheme_of(parent.description.structure):
        return ()
    return (f"not smaller than its teacher: {mine:,} parameters, {parent.name} has {theirs:,}",)


def _check(temperature: float, mixture: float, feature_weight: float) -> None:
    problems = [
        f"{name} is {value}; it must be {wanted}"
        for name, value, wanted, right in (
            ("temperature", temperature, "above 0 and at most 100", 0.0 < temperature <= 100.0),
            ("mixture", mixture, "0 (targets alone) to 1 (the teacher alone)", 0.0 <= mixture <= 1.0),
            ("feature weight", feature_weight, "above 0", 0.0 < feature_weight < float("inf")),
        )
        if not right
    ]
    if problems:
        raise BuildError("; ".join(problems))
