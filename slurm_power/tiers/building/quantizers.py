"""The one place that knows quantization libraries: a scheme's name turns a float model into a quantized one.

Another library is one more row of ``SCHEMES``. What it makes has to be plain tensors in ``state_dict`` or
tensors that take themselves apart (``__tensor_flatten__``), so that ``packed`` can write it.
"""

import copy
import importlib
import importlib.util
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from slurm_power.model.tier import TierMethod


class QuantizeError(ValueError):
    """A scheme is not known, its library is missing, or it cannot be used here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """A way to quantize. ``device``: what it is fast on. ``bits`` of a weight. ``note`` is for users."""

    name: str
    apply: Callable[[nn.Module], None]
    library: str
    device: str
    bits: int
    note: str = ""

    @property
    def method(self) -> TierMethod:
        """What a catalog calls it."""
        return TierMethod.INT4 if self.bits == 4 else TierMethod.INT8


def quantized(model: nn.Module, scheme: str) -> nn.Module:
    """Return a quantized copy of a model, in evaluation mode; the model itself stays as it is.

    Raises QuantizeError for a scheme that is unknown, whose library is not installed, or that the library
    cannot do on this machine.
    """
    known = SCHEMES.get(scheme)
    if known is None:
        raise QuantizeError(f"scheme {scheme!r} is not known; known are {', '.join(SCHEMES)}")
    if importlib.util.find_spec(known.library.partition(".")[0]) is None:
        raise QuantizeError(f"scheme {scheme} needs {known.library}: pip install 'slurm-power[tiers-gpu]'")
    copied = copy.deepcopy(model).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its removal after torch 2.13, and of kernels for other machines
        try:
            known.apply(copied)
        except (ImportError, NotImplementedError, RuntimeError, AssertionError, AttributeError) as error:
            raise QuantizeError(f"scheme {scheme}: {known.library} cannot do it here: {error}") from error
    if _float_layers(copied) >= _float_layers(model):
        raise QuantizeError(
            f"scheme {scheme}: {known.library} left every layer as it was; it quantizes dense layers alone"
            " (nn.Linear), some schemes only such whose widths are multiples of 128"
        )
    return copied


def _float_layers(model: nn.Module) -> int:
    """Count the dense layers whose weights are still plain floats."""
    return sum(
        type(module) is nn.Linear and not hasattr(module.weight, "__tensor_flatten__")
        for module in model.modules()
    )


def _torch_dynamic(model: nn.Module) -> None:
    """int8 weights per output channel; activations are scaled at each call. fbgemm or qnnpack: CPUs only."""
    library = importlib.import_module("torch.ao.quantization")
    layers = {nn.Linear: library.per_channel_dynamic_qconfig}
    library.quantize_dynamic(model, layers, dtype=torch.qint8, inplace=True)


def _torchao(config: str) -> Callable[[nn.Module], None]:
    def apply(model: nn.Module) -> None:
        quantization = importlib.import_module("torchao.quantization")  # three seconds
        quantization.quantize_(model, getattr(quantization, config)())

    return apply


_SLOW_ON_CPU = "on CPUs smaller, but slower than float"

SCHEMES = {
    scheme.name: scheme
    for scheme in (
        Scheme(name="int8", apply=_torch_dynamic, library="torch.ao", device="cpu", bits=8),
        Scheme(
            name="int8-weight-only",
            apply=_torchao("Int8WeightOnlyConfig"),
            library="torchao",
            device="cuda",
            bits=8,
            note=_SLOW_ON_CPU,
        ),
        Scheme(
            name="int8-dynamic",
            apply=_torchao("Int8DynamicActivationInt8WeightConfig"),
            library="torchao",
            device="cuda",
            bits=8,
            note=_SLOW_ON_CPU,
        ),
        Scheme(
            name="int4-weight-only",
            apply=_torchao("Int4WeightOnlyConfig"),
            library="torchao",
            device="cuda",
            bits=4,
            note="needs a GPU",
        ),
    )
}
