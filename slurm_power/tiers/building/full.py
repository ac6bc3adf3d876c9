"""Train the reference: the model that lighter tiers are made from, or a smaller one by itself."""

from collections.abc import Mapping

from slurm_power.model.tier import TierMethod
from slurm_power.tiers.building.build import Built, Order, deliver
from slurm_power.tiers.building.fit import Recipe, fit, seed_everything
from slurm_power.tiers.building.rows import read_data
from slurm_power.tiers.building.work_folder import WorkFolder
from slurm_power.tiers.task import full_shape


def full(
    order: Order, *, shape: Mapping[str, int | float] | None = None, recipe: Recipe | None = None
) -> Built:
    """Train a fresh model of the task on its train rows.

    ``shape`` are the numbers that differ from the task's own shape. Where some do, the tier's method is
    ``smaller``, otherwise ``none``. Raises TaskError (unknown shape), BuildError, ArtifactError, Stopped.
    """
    recipe = recipe or Recipe(seed=order.seed, device=order.device)
    chosen = full_shape(order.task, shape or {})
    method = TierMethod.NONE if chosen == order.task.shape() else TierMethod.SMALLER
    with WorkFolder(
        order.output, order.settings("full", recipe, shape=chosen), replace=order.replace
    ) as work:
        data = read_data(order.task)
        seed_everything(recipe.seed)
        model = order.task.new_model(**chosen)
        fitted = fit(model, order.task, data, recipe, around=order.around(work))
        return deliver(
            order,
            work,
            model,
            data,
            method=method,
            shape=chosen,
            parent=None,
            fitted=fitted,
            recipe=recipe,
            options={},
        )
