"""Multiply-adds of a model for one item, counted by torch itself at the operators that do them.

torch's FlopCounterMode sees matrix products, convolutions and attention wherever they come from, where hooks
on modules miss what a ``forward`` calls by itself, and torch-pruning's counter leaves out layers of types it
does not know. It does not see torch's packed int8 layers: these are added by hooks.
"""

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


def count_multiply_adds(model: nn.Module, item: Tensor) -> int | None:
    """Return the multiply-adds of one forward pass over ``item``, a batch of one row.

    None where the model has operators that nothing counts, so that the sum would be 0.
    """
    packed = 0

    def add(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        nonlocal packed
        packed += math.prod(output.shape[:-1]) * int(module.in_features) * int(module.out_features)  # type: ignore[arg-type]  # both are numbers of dense layers

    hooks = [module.register_forward_hook(add) for module in model.modules() if _is_packed(module)]
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one fused operator that is not counted
    model.eval()
    try:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model(item)
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for hook in hooks:
            hook.remove()
    return (counter.get_total_flops() // 2 + packed) or None


def _is_packed(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.ao.nn.quantized") and hasattr(module, "in_features")
