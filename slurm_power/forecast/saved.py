"""States of forecasters as arrays that can be written to a file, and how they are checked when read."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from slurm_power.forecast.experts import Values

State = dict[str, NDArray[np.generic]]


def nested(name: str, state: Mapping[str, NDArray[np.generic]]) -> State:
    """A part's state under its name."""
    return {f"{name}.{key}": array for key, array in state.items()}


def part(name: str, state: Mapping[str, NDArray[np.generic]]) -> State:
    """The state of the part with this name."""
    return {key.removeprefix(f"{name}."): array for key, array in state.items() if key.startswith(f"{name}.")}


def values_of(
    state: Mapping[str, NDArray[np.generic]], name: str, shape: tuple[int, ...], *, gaps: bool = False
) -> Values:
    """A copy of an array of numbers, in double precision; raises ValueError that names what does not fit."""
    found = _numbers(state, name)
    if found.shape != shape:
        raise ValueError(f"{name}: its shape is {found.shape}, not {shape}")
    values = found.astype(np.float64)
    if np.isinf(values).any() or (not gaps and np.isnan(values).any()):
        raise ValueError(f"{name}: not finite")
    return values


def integer(state: Mapping[str, NDArray[np.generic]], name: str, *, most: int, least: int = 0) -> int:
    """A whole number; raises ValueError when it is none or out of bounds."""
    found = values_of(state, name, ())
    number = int(found)
    if number != found or not least <= number <= most:
        raise ValueError(f"{name}: {found} is not within {least} to {most}")
    return number


def positions(state: Mapping[str, NDArray[np.generic]], name: str, count: int) -> NDArray[np.int64]:
    """Rising places in an array of ``count``; raises ValueError for others."""
    found = _numbers(state, name)
    values = values_of(state, name, found.shape[:1])
    if len(values) and not (np.all(np.diff(values) > 0) and values[0] >= 0 and values[-1] < count):
        raise ValueError(f"{name}: not rising within {count}")
    return values.astype(np.int64)


def _numbers(state: Mapping[str, NDArray[np.generic]], name: str) -> NDArray[np.generic]:
    if name not in state:
        raise ValueError(f"{name} is missing")
    found = np.asarray(state[name])
    if not (np.issubdtype(found.dtype, np.floating) or np.issubdtype(found.dtype, np.integer)):
        raise ValueError(f"{name}: {found.dtype} are no numbers")
    return found
