"""Checks that several requests share: who asks, and whether a number is one."""

from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.wire import Message

_MOST_NUMBER = 1e12


def need_operator(caller: Caller, deed: str) -> None:
    """Raise RefusedError unless the caller is an operator."""
    if not caller.operator:
        raise RefusedError(
            f"{caller.user} may not {deed}: only root and powerctld's own user may here,"
            " and operators at the dashboard"
        )


def number(request: Message, key: str) -> float | None:
    """A finite number of the request, None where it is missing; raises RefusedError for anything else."""
    value = request.get(key)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) <= _MOST_NUMBER:
        raise RefusedError(f"{key}: {value!r} is no number")
    return float(value)


def text(request: Message, key: str, problems: list[str], *, most: int = 500, why: str = "") -> str:
    """A text that must be there, "" with a problem added where it is not; ``why`` is what it is good for."""
    value = request.get(key)
    found = value.strip() if isinstance(value, str) else ""
    if not found or any("\ud800" <= letter <= "\udfff" for letter in found):
        problems.append(f"{key}: missing or no text" + (f"; {why}" if why else ""))
        return ""
    if len(found) > most:
        problems.append(f"{key}: {len(found)} letters are too many; at most {most}")
    return found
