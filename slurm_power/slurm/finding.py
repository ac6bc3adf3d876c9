"""One thing that is wrong or worth knowing: what, where, and what to do about it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """A ``note`` is a choice a site may make; with a ``warning`` it works, not as it should."""

    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


_EXIT = {Severity.NOTE: 0, Severity.WARNING: 1, Severity.ERROR: 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A finding; ``fix`` is empty where there is nothing to do."""

    severity: Severity
    where: str
    what: str
    fix: str = ""

    def line(self) -> str:
        """The finding as one line."""
        return f"{self.severity}: {self.where}: {self.what}" + (f"; fix: {self.fix}" if self.fix else "")

    def as_json(self) -> dict[str, str]:
        """The finding for programs."""
        return {"severity": self.severity.value, "where": self.where, "what": self.what, "fix": self.fix}


def note(where: str, what: str, fix: str = "") -> Finding:
    """A finding that asks for nothing."""
    return Finding(severity=Severity.NOTE, where=where, what=what, fix=fix)


def warning(where: str, what: str, fix: str = "") -> Finding:
    """A finding that should be put right."""
    return Finding(severity=Severity.WARNING, where=where, what=what, fix=fix)


def error(where: str, what: str, fix: str = "") -> Finding:
    """A finding that must be put right."""
    return Finding(severity=Severity.ERROR, where=where, what=what, fix=fix)


def exit_status(findings: Sequence[Finding]) -> int:
    """0 for notes at most, 1 for warnings, 2 for errors."""
    return max((_EXIT[finding.severity] for finding in findings), default=0)
