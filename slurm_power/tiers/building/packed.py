"""A model's state as plain tensors by name, and back: what a file of weights can hold without any code in it.

Three kinds of entries: plain tensors under their own names; the packed weights of torch's dynamic int8 layers
as integers, scales and zero points; tensor subclasses of quantization libraries, taken apart by their own
``__tensor_flatten__``. The parts of one entry share its name before a ``#``.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

_PER_CHANNEL = (torch.per_channel_affine, torch.per_channel_symmetric)


class PackedError(ValueError):
    """The tensors are not those of the model."""


def pack(model: nn.Module) -> dict[str, Tensor]:
    """Return the whole state as plain tensors on the CPU, none of them sharing memory; shared ones come once.

    Raises PackedError for an entry that is none of the three kinds.
    """
    state = model.state_dict(keep_vars=True)
    shared = _first_names(state)
    return {
        part: tensor.detach().cpu().contiguous().clone()
        for name, value in state.items()
        if shared.get(name, name) == name
        for part, tensor in _parts(name, value)
    }


def packed_bytes(model: nn.Module) -> int:
    """Bytes of all weights as they are written."""
    return sum(tensor.nbytes for tensor in pack(model).values())


def unpack(model: nn.Module, packed: Mapping[str, Tensor]) -> None:
    """Fill a model of the same structure; raises PackedError where names, shapes or types differ."""
    left = dict(packed)
    state = model.state_dict(keep_vars=True)
    shared = _first_names(state)
    filled: dict[str, Any] = {}
    problems: list[str] = []
    for name, value in state.items():
        if shared.get(name, name) != name:
            continue  # it shares its memory with one that is filled
        try:
            filled[name] = _value(name, value, left)
        except PackedError as error:
            problems.append(str(error))
    problems += [f"{name} is not in the model" for name in left]
    if problems:
        more = f" (and {len(problems) - 5} more)" if len(problems) > 5 else ""
        raise PackedError("; ".join(problems[:5]) + more)
    for name, value in filled.items():
        if _is_apart(value):
            owner, _, last = name.rpartition(".")
            setattr(model.get_submodule(owner), last, nn.Parameter(value, requires_grad=False))
    whole = model.state_dict()  # with the versions of its modules, which packed layers ask for
    for name in state:
        whole[name] = filled[shared.get(name, name)] if not _is_apart(whole[name]) else whole[name]
    model.load_state_dict(whole)


def _parts(name: str, value: object) -> Iterator[tuple[str, Tensor]]:
    match value:
        case torch.dtype():
            return  # of a packed layer: its scheme says it
        case (Tensor() as weight, bias):
            yield f"{name}#int8", weight.int_repr()
            if weight.qscheme() in _PER_CHANNEL:
                yield f"{name}#scale", weight.q_per_channel_scales()
                yield f"{name}#zero_point", weight.q_per_channel_zero_points()
            else:
                yield f"{name}#scale", torch.tensor(weight.q_scale(), dtype=torch.float64)
                yield f"{name}#zero_point", torch.tensor(weight.q_zero_point())
            if isinstance(bias, Tensor):
                yield f"{name}#bias", bias
        case Tensor() if _is_apart(value):
            for part in _inner(value):
                yield f"{name}#{part}", getattr(value, part)
        case Tensor():
            yield name, value
        case _:
            raise PackedError(f"{name} is a {type(value).__name__}: only tensors can be written")


def _value(name: str, value: object, left: dict[str, Tensor]) -> object:
    """The entry of that name, made from the parts that are taken out of ``left``."""
    match value:
        case torch.dtype():
            return value
        case (Tensor() as weight, bias):
            return _packed_layer(name, weight, bias, left)
        case Tensor() if _is_apart(value):
            inner, context = value.__tensor_flatten__()  # type: ignore[attr-defined]  # of tensor subclasses
            parts = {part: _taken(f"{name}#{part}", getattr(value, part), left) for part in inner}
            return type(value).__tensor_unflatten__(parts, context, value.shape, value.stride())  # type: ignore[attr-defined]  # the same
        case Tensor():
            return _taken(name, value, left)
        case _:
            raise PackedError(f"{name} is a {type(value).__name__} in this version of torch")


def _packed_layer(name: str, weight: Tensor, bias: object, left: dict[str, Tensor]) -> tuple[Tensor, object]:
    integers = _taken(f"{name}#int8", weight.int_repr(), left)
    if weight.qscheme() in _PER_CHANNEL:
        scales = _taken(f"{name}#scale", weight.q_per_channel_scales(), left)
        points = _taken(f"{name}#zero_point", weight.q_per_channel_zero_points(), left)
        axis = weight.q_per_channel_axis()
        made = torch._make_per_channel_quantized_tensor(integers, scales, points, axis)
    else:
        scale = _taken(f"{name}#scale", torch.tensor(0.0, dtype=torch.float64), left)
        point = _taken(f"{name}#zero_point", torch.tensor(0), left)
        made = torch._make_per_tensor_quantized_tensor(integers, float(scale), int(point))
    with_bias = isinstance(bias, Tensor)
    return made, nn.Parameter(_taken(f"{name}#bias", bias, left)) if with_bias else None


def _taken(name: str, like: object, left: dict[str, Tensor]) -> Tensor:
    found = left.pop(name, None)
    if found is None:
        raise PackedError(f"{name} is missing")
    if not isinstance(like, Tensor) or found.shape != like.shape or found.dtype != like.dtype:
        wanted = f"{tuple(like.shape)} of {like.dtype}" if isinstance(like, Tensor) else "nothing"
        raise PackedError(f"{name} is {tuple(found.shape)} of {found.dtype}, the model has {wanted}")
    return found


def _is_apart(value: object) -> bool:
    return isinstance(value, Tensor) and hasattr(value, "__tensor_flatten__")


def _inner(value: Tensor) -> list[str]:
    return list(value.__tensor_flatten__()[0])  # type: ignore[attr-defined]  # of tensor subclasses


def _first_names(state: Mapping[str, object]) -> dict[str, str]:
    """For each plain tensor the first name of those that share its memory."""
    first: dict[tuple[int, torch.Size, tuple[int, ...]], str] = {}
    names = {}
    for name, value in state.items():
        if isinstance(value, Tensor) and not _is_apart(value) and value.numel():
            names[name] = first.setdefault((value.data_ptr(), value.shape, value.stride()), name)
    return names
