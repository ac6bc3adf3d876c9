"""On whose behalf a daemon beside the controller asks, as it says with ``for``."""

import re
from dataclasses import dataclass
from enum import StrEnum

from slurm_power.model.role import Role

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.@-]{0,63}\$?\Z")
NOBODY = "(nobody)"
"""Who has not said who they are: no user can have this name."""


def user_name(text: object) -> bool:
    """Whether a text can be the name of a user, or of a signal."""
    return isinstance(text, str) and _NAME.match(text) is not None


class Via(StrEnum):
    """By which way somebody asks."""

    WEB = "web"
    SIGNAL = "signal"


class BehalfError(ValueError):
    """No such person can be spoken for; the text names the field."""


@dataclass(frozen=True, slots=True)
class Behalf:
    """Somebody whose name and role a daemon has made sure of."""

    name: str
    role: Role
    via: Via

    @property
    def who(self) -> str:
        """As the ledger names them: ``alice (web)``, ``signal:openadr3``."""
        return f"signal:{self.name}" if self.via is Via.SIGNAL else f"{self.name} ({self.via.value})"


def behalf_of(value: object) -> Behalf:
    """Take ``{"name": "alice", "role": "operator", "via": "web"}``; raises BehalfError with all problems."""
    if not isinstance(value, dict):
        raise BehalfError("for: must be an object with name, role and via")
    problems = []
    name, role, via = (value.get(key) for key in ("name", "role", "via"))
    if not user_name(name) and name != NOBODY:
        problems.append("for.name: no user's name")
    if role not in list(Role):
        problems.append(f"for.role: not one of {', '.join(Role)}")
    if via not in list(Via):
        problems.append(f"for.via: not one of {', '.join(Via)}")
    if problems:
        raise BehalfError("; ".join(problems))
    return Behalf(str(name), Role(str(role)), Via(str(via)))
