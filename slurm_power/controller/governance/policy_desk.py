"""The policy in force: site.toml's, the weights that an operator has put in place, and who changed what."""

import logging
import pwd
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from slurm_power import clock
from slurm_power.config import SiteConfig
from slurm_power.controller.governance.control_desk import States
from slurm_power.controller.governance.operators import Note
from slurm_power.controller.governance.policy_values import (
    change_words,
    changes_between,
    fingerprint,
    in_parts,
    policy_values,
)
from slurm_power.plan.policy import Policy
from slurm_power.plan.weights import WeightsError, weights_of, with_weights

_WEIGHTS, _BOOK = "weights_overridden", "policy_book"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Override:
    """Weights that stand in place of site.toml's, and whose doing that is."""

    weights: Mapping[str, Any]
    actor: str
    reason: str
    at: str

    def row(self) -> dict[str, Any]:
        """It as plain values."""
        return {"weights": dict(self.weights), "by": self.actor, "reason": self.reason, "at": self.at}


class PolicyDesk:
    """Keeps the policy's book. Each change is a ledger entry with its author, as far as that can be known."""

    def __init__(self, config: SiteConfig, store: States, *, note: Note) -> None:
        """Go on with what an earlier controller has left in ``store``."""
        self._config = config
        self._file = config.policy
        self._store = store
        self._note = note
        self.override: Override | None = None
        self.policy = config.policy
        self.text = ""
        self._problem = ""
        self._take_over(store.state(_WEIGHTS))
        stored = store.state(_BOOK)
        self._book: dict[str, Any] = dict(stored) if isinstance(stored, dict) else {}
        # A large site's values are many, and this is asked each second.
        self._file_mark = self._mark = ""

    def _take_over(self, stored: object) -> None:
        if not isinstance(stored, dict):
            return
        try:
            override = Override(
                weights=dict(stored["weights"]),
                actor=str(stored["by"]),
                reason=str(stored["reason"]),
                at=str(stored["at"]),
            )
            self.policy = with_weights(self._file, override.weights)
            self.override = override
        except (KeyError, TypeError, ValueError, WeightsError) as error:
            self._problem = f"weights kept from before are not used: {error}"

    def look(self) -> None:
        """Compare site.toml with what was in force last, and write what has changed; called at a start."""
        if self._problem:
            self._note("controller", "fault", "weights", self._problem)
        try:
            self.text = self._config.governance.text()
            values = policy_values(self._config, self.text)
        except (OSError, ValueError) as error:
            self._note("controller", "fault", "policy", f"its changes cannot be told: {error}")
            return
        self._file_mark = fingerprint(values)
        self._measure()
        before = self._book.get("values")
        if not isinstance(before, dict):
            self._first(values)
        elif changes := changes_between(before, values):
            self._changed(changes, values)
        if self.override is not None:
            words = ", ".join(f"{key} {value}" for key, value in self.override.weights.items())
            reason = f"still overridden by {self.override.actor}: {words}"
            self._note("controller", "weights kept", "weights", reason, details=self.override.row())

    def _first(self, values: dict[str, Any]) -> None:
        author = self._author()
        small = {key: value for key, value in values.items() if not key.startswith("circuit.")}
        details = {"fingerprint": self._file_mark, "values": small, **author}
        reason = f"its {len(values)} values are watched from now on"
        self._note(f"author:{author['author']}", "policy recorded", "policy", reason, details=details)
        self._keep(values, author, [])

    def _changed(self, changes: dict[str, dict[str, Any]], values: dict[str, Any]) -> None:
        author, mark = self._author(), self._file_mark
        parts = list(in_parts(changes))
        signed = "" if author["signed"] else f"; unsigned, {author['author_from']}"
        for number, part in enumerate(parts, 1):
            details = {
                "changes": part,
                "part": number,
                "parts": len(parts),
                "fingerprint": mark,
                "fingerprint_before": self._book.get("fingerprint"),
                **author,
            }
            reason = change_words(part) + signed
            self._note(f"author:{author['author']}", "policy changed", "policy", reason, details=details)
        pending = self.unsigned if author["signed"] else [*self.unsigned, mark]
        self._keep(values, author, pending)

    def _author(self) -> dict[str, Any]:
        """Who has changed site.toml last: who it says, else whose file it is."""
        found: dict[str, Any] = {"file": str(self._config.file), "file_owner": None, "file_modified_at": None}
        try:
            status = self._config.file.stat()
            found["file_owner"] = _user_name(status.st_uid)
            found["file_modified_at"] = datetime.fromtimestamp(status.st_mtime, UTC).isoformat()
        except (OSError, OverflowError, ValueError) as error:
            log.warning("%s: %s", self._config.file, error)
        if said := self._config.governance.author:
            return {**found, "author": said, "author_from": "governance.author says so", "signed": True}
        owner = found["file_owner"] or "unknown"
        where = f"{Path(self._config.file).name} belongs to {owner}"
        return {**found, "author": owner, "author_from": where, "signed": False}

    def _keep(self, values: dict[str, Any], author: Mapping[str, Any], unsigned: list[str]) -> None:
        self._book = {
            "values": values,
            "fingerprint": self._file_mark,
            "at": clock.now().isoformat(),
            "author": author["author"],
            "unsigned": unsigned,
        }
        self._store.put_state(_BOOK, self._book)

    @property
    def unsigned(self) -> list[str]:
        """Fingerprints of the changes that nobody has signed."""
        found = self._book.get("unsigned")
        return [str(one) for one in found] if isinstance(found, list) else []

    def sign(self, *, actor: str, who: str, reason: str) -> list[str]:
        """Put a name and a reason to all changes that nobody has signed; returns their fingerprints."""
        pending = self.unsigned
        if pending:
            self._note(actor, "policy signed", "policy", reason, details={"fingerprints": pending})
            self._book |= {"author": who, "unsigned": []}
            self._store.put_state(_BOOK, self._book)
        return pending

    def with_weights(self, weights: Mapping[str, Any]) -> Policy:
        """What the policy would be with these weights; raises WeightsError with every problem."""
        return with_weights(self._file, weights)

    def set_weights(self, weights: Mapping[str, Any] | None, *, actor: str, reason: str) -> Policy:
        """Put weights in place of site.toml's, None takes them back; raises WeightsError, nothing changed."""
        policy = self._file if weights is None else with_weights(self._file, weights)
        before, now = weights_of(self.policy), weights_of(policy)
        self.policy = policy
        self.override = None
        if weights is not None:
            given = {key: now[key] for key in weights}
            at = clock.now().isoformat()
            self.override = Override(weights=given, actor=actor, reason=reason, at=at)
        self._measure()
        self._store.put_state(_WEIGHTS, None if self.override is None else self.override.row())
        named = changes_between(
            *({f"policy.{key}": one for key, one in row.items()} for row in (before, now))
        )
        details = {
            "changes": named,
            "run_time": True,
            "weights": None if self.override is None else dict(self.override.weights),
            "fingerprint": self._mark,
            "author": actor,
            "signed": True,
        }
        words = change_words(named) or "as it was"
        self._note(actor, "policy changed", "weights", f"{words}: {reason}", details=details)
        return policy

    def _measure(self) -> None:
        """The fingerprint of the values in force: the file's, and with an operator's weights one of both."""
        over = {} if self.override is None else {"file": self._file_mark, **self.override.weights}
        self._mark = fingerprint(over) if over and self._file_mark else self._file_mark

    def override_row(self) -> dict[str, Any] | None:
        """The weights that stand in place of site.toml's, whose doing that is and why; None for none."""
        return None if self.override is None else self.override.row()

    def row(self) -> dict[str, Any]:
        """The policy's fingerprint, since when it is so, by whom, and whether somebody stands for that."""
        changed_at, author = self._book.get("at"), self._book.get("author")
        if self.override is not None and str(changed_at or "") <= self.override.at:
            changed_at, author = self.override.at, self.override.actor
        return {
            "fingerprint": self._mark,
            "changed_at": changed_at,
            "author": author,
            "unsigned_changes": len(self.unsigned),
        }


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
