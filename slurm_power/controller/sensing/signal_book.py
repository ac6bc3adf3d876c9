"""What powerbridge tells of its signals, kept in memory and shown among the sources."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from slurm_power.controller.answers.user_socket import RefusedError
from slurm_power.model.reading import Quality
from slurm_power.telemetry.circuits import SourceRow

SILENT_SECONDS = 60.0
"""powerbridge tells its signals every few seconds; without a word for so long nothing is known of them."""
_MOST_SIGNALS = 200
_MOST_LETTERS = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRow:
    """One signal of the grid: where it stands, and when its other end was last heard."""

    name: str
    kind: str
    state: Quality
    last_heard: datetime | None
    reason: str


class SignalBook:
    """The signals of one site. ``kinds``: by name, the kind of each that site.toml has."""

    def __init__(self, kinds: Mapping[str, str]) -> None:
        self._kinds = dict(kinds)
        self._rows: dict[str, SignalRow] = {}
        self._told_seconds: float | None = None

    def take(self, told: object, now_seconds: float) -> None:
        """Take powerbridge's word in place of the one before; raises RefusedError with all that is wrong."""
        if not isinstance(told, list) or len(told) > _MOST_SIGNALS:
            raise RefusedError(f"signals: must be a list of at most {_MOST_SIGNALS}")
        problems: list[str] = []
        rows = [row for number, one in enumerate(told) if (row := _row(one, f"signals.{number}", problems))]
        if problems:
            raise RefusedError("; ".join(problems))
        self._rows = {row.name: row for row in rows}
        self._told_seconds = now_seconds

    def rows(self, at: datetime, now_seconds: float) -> list[SourceRow]:
        """One row for each signal that site.toml has or powerbridge has told of."""
        told = self._told_seconds
        silent_seconds = None if told is None else now_seconds - told
        silent = silent_seconds is None or silent_seconds > SILENT_SECONDS
        found = []
        for name in {**self._kinds, **self._rows}:
            row = self._rows.get(name)
            kind = row.kind if row is not None else self._kinds[name]
            heard = None if row is None else row.last_heard
            found.append(
                SourceRow(
                    source=f"signal:{name}",
                    measures=f"{kind} signal",
                    watts=None,
                    age_seconds=None if heard is None else max(0.0, (at - heard).total_seconds()),
                    quality=Quality.INVALID if row is None or silent else row.state,
                    reason=_reason(row, silent_seconds, silent=silent),
                )
            )
        return found


def _reason(row: SignalRow | None, silent_seconds: float | None, *, silent: bool) -> str:
    if silent_seconds is None:
        return "powerbridge has told nothing yet; does it run?"
    if silent:
        return f"powerbridge is silent for {silent_seconds:.0f} s"
    return (
        "powerbridge does not know it; restart it after a change of site.toml" if row is None else row.reason
    )


def _row(told: object, path: str, problems: list[str]) -> SignalRow | None:
    before = len(problems)
    if not isinstance(told, dict):
        problems.append(f"{path}: must be an object")
        return None
    texts = {key: _text(told.get(key), f"{path}.{key}", problems) for key in ("name", "kind", "reason")}
    problems += [f"{path}.{key}: missing" for key in ("name", "kind") if not texts[key]]
    try:
        state = Quality(str(told.get("state")))
    except ValueError:
        problems.append(f"{path}.state: {told.get('state')!r} is not one of {', '.join(Quality)}")
        state = Quality.INVALID
    heard = _moment(told.get("last_heard"), f"{path}.last_heard", problems)
    if len(problems) > before:
        return None
    return SignalRow(
        name=texts["name"], kind=texts["kind"], state=state, last_heard=heard, reason=texts["reason"]
    )


def _text(value: Any, path: str, problems: list[str]) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > _MOST_LETTERS or not value.isprintable():
        problems.append(f"{path}: must be one line of at most {_MOST_LETTERS} printable characters")
        return ""
    return value


def _moment(value: Any, path: str, problems: list[str]) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(value)
        if moment.tzinfo is not None:
            return moment
    except (TypeError, ValueError):
        pass
    problems.append(f"{path}: {value!r} is no time with its zone, such as 2026-11-28T15:00:00+00:00")
    return None
