"""Checks that several requests share: who asks, and whether a number is one."""

from slurm_power.controller.user_socket import Caller, RefusedError
from slurm_power.wire import Message

_MOST_NUMBER = 1e12


def need_operator(caller: Caller, deed: str) -> None:
    """Raise RefusedError unless the caller is an operator."""
    if not caller.operator:
        raise RefusedError(f"{caller.user} may not {deed}: only root and the controller's own user may")


def number(request: Message, key: str) -> float | None:
    """A finite number of the request, None where it is missing; raises RefusedError for anything else."""
    value = request.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _MOST_NUMBER:
        raise RefusedError(f"{key}: {value!r} is no number")
    return float(value)
