"""What a model costs to run: multiply-adds by counting, processor time by measuring."""

import time

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

_OPERATIONS_PER_MULTIPLY_ADD = 2
_REPEATS = 5
_LEAST_SECONDS = 0.01


def multiply_adds(model: nn.Module, inputs: Tensor) -> int:
    """Return the multiply-adds of one row: dense layers, convolutions, attention, quantized or not.

    ``inputs`` are one or more rows as the model takes them. Norms and activations are not counted.
    """
    packed = 0

    def note(module: nn.Module, _inputs: object, output: object) -> None:
        nonlocal packed
        if isinstance(output, Tensor):
            packed += output.numel() * int(vars(module)["in_features"])

    # torch's counter knows nothing of the int8 layers' own operation.
    hooks = [
        module.register_forward_hook(note)
        for module in model.modules()
        if type(module).__module__.startswith("torch.ao.nn.quantized") and "in_features" in vars(module)
    ]
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            model.eval()(inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return round((counter.get_total_flops() / _OPERATIONS_PER_MULTIPLY_ADD + packed) / len(inputs))


def cpu_seconds_per_row(model: nn.Module, inputs: Tensor) -> float:
    """Return this process's processor time for one row of a batch: a proxy of its energy on a CPU.

    The least of several runs, since what others do on the machine only ever adds to it.
    """
    model.eval()
    with torch.inference_mode():
        model(inputs)
        times: list[float] = []
        needed = 1
        while len(times) < _REPEATS:
            started = time.process_time()
            for _ in range(needed):
                model(inputs)
            seconds = time.process_time() - started
            if seconds < _LEAST_SECONDS:
                needed *= 2
                continue
            times.append(seconds / needed)
    return min(times) / len(inputs)
