"""Multiply-adds of a model for one item, counted by torch itself at the operators that do them.

torch's FlopCounterMode sees matrix products, convolutions and attention wherever they come from; hooks on
modules would miss what a ``forward`` calls by itself. (torch-pruning's counter adds up norms and activations
as well, and counts a GRU 66-fold.) It does not see torch's packed int8 layers: these are added by hooks.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode


def count_multiply_adds(model: nn.Module, item: Tensor) -> int | None:
    """Return the multiply-adds of one forward pass over ``item``, a batch of one row.

    None where the model has none of the operators that are counted.
    """
    packed = 0

    def add(module: nn.Module, _inputs: Any, output: Tensor) -> None:
        nonlocal packed
        packed += math.prod(output.shape[:-1]) * int(module.in_features) * int(module.out_features)  # type: ignore[arg-type]  # both are numbers of dense layers

    hooks = [module.register_forward_hook(add) for module in model.modules() if _is_packed(module)]
    model.eval()
    try:
        with torch.no_grad(), _unfused(), FlopCounterMode(display=False) as counter:
            model(item)
    finally:
        for hook in hooks:
            hook.remove()
    return (counter.get_total_flops() // 2 + packed) or None


@contextmanager
def _unfused() -> Iterator[None]:
    """Let attention and recurrent layers run as the products they are made of, which are counted."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of GPUs of a maker that are not there
            with torch.backends.mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH):
                yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _is_packed(module: nn.Module) -> bool:
    return type(module).__module__.startswith("torch.ao.nn.quantized") and hasattr(module, "in_features")
