"""What came of trying one signal once."""

from dataclasses import dataclass
from enum import StrEnum


class Standing(StrEnum):
    """``stale``: it is there, and says nothing of now; ``wrong``: it is there, and cannot be meant so."""

    OK = "ok"
    STALE = "stale"
    UNREACHABLE = "unreachable"
    WRONG = "wrong"


_EXIT = {Standing.OK: 0, Standing.STALE: 1, Standing.UNREACHABLE: 2, Standing.WRONG: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalFound:
    """One signal, named as in site.toml. ``fix``: what to do, empty where there is nothing.

    ``newest_age_seconds``: since when its newest value that is not of the future counts; None: it has none.
    """

    name: str
    kind: str
    standing: Standing
    what: str
    fix: str = ""
    newest_age_seconds: float | None = None

    @property
    def exit_status(self) -> int:
        """0 for good, 1 for what works and should be looked at, 2 for what does not work."""
        return max(_EXIT[self.standing], 1 if self.fix else 0)

    def as_json(self) -> dict[str, str | float | None]:
        """The signal for programs."""
        return {
            "name": self.name,
            "kind": self.kind,
            "state": self.standing.value,
            "newest_age_seconds": self.newest_age_seconds,
            "what": self.what,
            "fix": self.fix,
        }
