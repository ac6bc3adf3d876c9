"""Quantize a tier after its training: integers for weights, the same architecture, no more training."""

from slurm_power.tiers.building.build import Built, Order, Parent, deliver, float_parent
from slurm_power.tiers.building.fit import Fitted, validate
from slurm_power.tiers.building.packed import packed_bytes
from slurm_power.tiers.building.quantizers import SCHEMES, QuantizeError, quantized
from slurm_power.tiers.building.rows import read_data
from slurm_power.tiers.building.work_folder import WorkFolder


def quantize(order: Order, *, parent: Parent, scheme: str = "int8") -> Built:
    """Make a quantized tier of ``parent``.

    Schemes: ``int8`` (8-bit weights, scaled for each output channel, activations scaled at each call; fast on
    CPUs); ``int8-weight-only``, ``int8-dynamic``, ``int4-weight-only`` (torchao, for GPUs; the int8 ones run
    on CPUs, too, slower than float). Only dense layers are quantized. Raises QuantizeError,
    BuildError, ArtifactError.
    """
    if scheme not in SCHEMES:
        raise QuantizeError(f"scheme {scheme!r} is not known; known are {', '.join(SCHEMES)}")
    chosen = SCHEMES[scheme]
    settings = order.settings("quantize", None, scheme=scheme, parent=parent.sha256)
    with WorkFolder(order.output, settings, replace=order.replace) as work:
        data = read_data(order.task)
        source = float_parent(parent, "quantize")
        device = order.device if chosen.device == "cuda" else "cpu"
        model = quantized(source.to(device), scheme)
        fitted = Fitted(validation=validate(model, order.task, data.validation, device=device))
        before = validate(source, order.task, data.validation, device=device)
        notes: tuple[str, ...] = (
            () if device == chosen.device or not chosen.note else (f"{scheme}: {chosen.note}",)
        )
        if fitted.validation != before and order.task.at_least(fitted.validation, before):
            notes += (f"better than its parent on the validation rows ({before:.4g}): within chance",)
        size, size_before = packed_bytes(model), packed_bytes(source)
        if size >= size_before:
            notes += (
                f"no smaller than its parent: {size:,} bytes of weights, {parent.name} has {size_before:,}",
            )
        order.progress.note(
            f"quantized with {chosen.library}: validation {order.task.metric} {fitted.validation:.4g},"
            f" before {before:.4g}"
        )
        return deliver(
            order,
            work,
            model,
            data,
            method=chosen.method,
            shape=parent.description.shape,
            parent=parent,
            fitted=fitted,
            recipe=None,
            options={"scheme": scheme, "library": chosen.library},
            structure=[*parent.description.structure, {"quantized": scheme}],
            notes=notes,
        )
