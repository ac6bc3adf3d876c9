"""What somebody may see and do in the pictures of a site."""

from enum import StrEnum


class Role(StrEnum):
    """Each may all that those before it may, but for the deeds, which operators alone may do."""

    VIEWER = "viewer"
    """Sees totals."""
    USER = "user"
    """A user of the cluster: sees totals and jobs of their own."""
    AUDITOR = "auditor"
    """Sees everybody's jobs, and does nothing."""
    OPERATOR = "operator"
    """Sees and does everything."""

    def covers(self, other: "Role") -> bool:
        """Whether this one may all that ``other`` may."""
        order = list(Role)
        return order.index(self) >= order.index(other)
