"""How a model differs from the fresh one of its task: layers of other widths, and quantized layers.

``structure_of`` turns a model into plain numbers and words, ``apply`` makes a fresh model like it again. A
model is thus rebuilt from its task's own code and tensors alone: no code comes out of a file.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, empty_like, nn

from slurm_power.tiers.building.quantizers import quantized

Change = dict[str, Any]
"""``{"resized": {module: {attribute: number}}, "tensors": {name: shape}}`` or ``{"quantized": scheme}``."""


class StructureError(ValueError):
    """A structure does not fit the model that the task makes."""


def resized(model: nn.Module, fresh: nn.Module) -> list[Change]:
    """Return what has to be changed in ``fresh`` so that it has the widths of ``model``; empty for nothing.

    Every whole number that a module keeps (``out_channels``, ``num_heads``, a width of its own) is compared;
    raises StructureError where the two do not have the same modules.
    """
    mine, theirs = dict(model.named_modules()), dict(fresh.named_modules())
    if mine.keys() != theirs.keys():
        different = sorted(mine.keys() ^ theirs.keys())
        raise StructureError(f"other modules than the task's model has: {', '.join(different[:5])}")
    widths = {
        name: changed
        for name in mine
        if (changed := _changed_numbers(_numbers(mine[name]), _numbers(theirs[name])))
    }
    before = {name: tensor.shape for name, tensor in fresh.state_dict().items()}
    tensors = {
        name: list(tensor.shape)
        for name, tensor in model.state_dict().items()
        if tensor.shape != before.get(name)
    }
    return [{"resized": widths, "tensors": tensors}] if widths or tensors else []


def apply(fresh: nn.Module, structure: Sequence[Change]) -> nn.Module:
    """Make a fresh model of the task one of that structure, its weights still to be filled in.

    Layers only get smaller. Raises StructureError.
    """
    model = fresh
    for change in structure:
        match change:
            case {"resized": dict(widths), "tensors": dict(tensors)}:
                _resize(model, widths, tensors)
            case {"quantized": str(scheme)}:
                model = quantized(model, scheme)
            case _:
                raise StructureError(f"structure has {sorted(change)}, which this version does not know")
    return model


def scheme_of(structure: Sequence[Change]) -> str:
    """The scheme its last change quantizes by, empty for a float model."""
    return str(structure[-1].get("quantized", "")) if structure else ""


def _numbers(module: nn.Module) -> dict[str, Any]:
    return {
        name: value
        for name, value in vars(module).items()
        if (isinstance(value, int) and not isinstance(value, bool)) or _whole_numbers(value)
    }


def _whole_numbers(value: object) -> bool:
    return isinstance(value, tuple) and bool(value) and all(type(part) is int for part in value)


def _changed_numbers(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in mine.items()
        if theirs.get(name) != value
    }


def _resize(model: nn.Module, widths: Mapping[str, Any], tensors: Mapping[str, Any]) -> None:
    modules = dict(model.named_modules())
    for name, numbers in widths.items():
        module = modules.get(name)
        if module is None:
            raise StructureError(
                f"structure resizes {name or 'the model'}, which the task's model does not have"
            )
        for attribute, number in numbers.items():
            if attribute not in _numbers(module):
                raise StructureError(
                    f"structure sets {name}.{attribute}, which the task's model does not have"
                )
            setattr(module, attribute, tuple(number) if isinstance(number, list) else int(number))
    remade: dict[int, Tensor] = {}  # tensors that two modules share stay shared
    for name, shape in tensors.items():
        owner, _, last = name.rpartition(".")
        old = getattr(modules.get(owner), last, None)
        if not isinstance(old, Tensor) or not _no_larger(shape, old.shape):
            raise StructureError(
                f"structure resizes {name} to {shape}: the task's model has none as large by that name"
            )
        if id(old) not in remade:
            remade[id(old)] = _empty(old, shape)
        setattr(modules[owner], last, remade[id(old)])


def _no_larger(shape: object, full: Sequence[int]) -> bool:
    if not isinstance(shape, list) or len(shape) != len(full):
        return False
    return all(type(width) is int and 0 < width <= most for width, most in zip(shape, full, strict=True))


def _empty(old: Tensor, shape: Sequence[int]) -> Tensor:
    new = empty_like(old.detach().new_empty(tuple(shape)))
    return nn.Parameter(new, requires_grad=old.requires_grad) if isinstance(old, nn.Parameter) else new
