"""The ``[governance]`` table: who answers for the site's policy, where users appeal, and its own words."""

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path

MOST_TEXT_BYTES = 65_536
_LONGEST_LINE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernanceConfig:
    """Who answers for the policy (docs/governance.md). What the policy *is* comes from the other tables.

    ``owner``: who decides on it, a person or a body; ``contact``: how they are reached. ``appeals``: where
    and how a user appeals, in a sentence; ``answer_days``: within how many days an appeal is answered.
    ``most_open_appeals``: how many appeals of one user may wait for an answer. ``text_file``: the site's own
    words, plain text; a relative path starts at site.toml. ``review_by``: when the policy is looked at again.
    ``author``: who made the last change of site.toml, where its owner as a file does not say.
    """

    owner: str = ""
    contact: str = ""
    appeals: str = ""
    answer_days: int = 14
    most_open_appeals: int = 5
    text_file: Path | None = None
    review_by: date | None = None
    author: str = ""

    def problems(self) -> list[str]:
        """What is wrong, each problem with its key; the text file itself is looked at by ``text``."""
        found = []
        for key in ("owner", "contact", "appeals", "author"):
            value = getattr(self, key)
            if len(value) > _LONGEST_LINE:
                found.append(f"{key}: {len(value)} letters are too many; at most {_LONGEST_LINE}")
            if not value.isprintable():
                found.append(f"{key}: must be one line of plain text")
        for key, low, high in (("answer_days", 1, 366), ("most_open_appeals", 1, 1000)):
            number = getattr(self, key)
            if not low <= number <= high:
                found.append(f"{key}: {number} is not between {low} and {high}")
        if self.text_file is not None:
            try:
                self.text()
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) and error.strerror else error
                found.append(f"text_file: {self.text_file}: {reason}")
        return found

    def below(self, folder: Path) -> "GovernanceConfig":
        """Make a relative ``text_file`` start at ``folder``."""
        return self if self.text_file is None else replace(self, text_file=folder / self.text_file)

    def text(self) -> str:
        """The site's own words, "" where it has none; raises OSError or ValueError."""
        if self.text_file is None:
            return ""
        with self.text_file.open("rb") as file:
            read = file.read(MOST_TEXT_BYTES + 1)
        if len(read) > MOST_TEXT_BYTES:
            raise ValueError(f"is longer than {MOST_TEXT_BYTES} bytes")
        try:
            return read.decode()
        except UnicodeDecodeError:
            raise ValueError("is no UTF-8 text") from None
