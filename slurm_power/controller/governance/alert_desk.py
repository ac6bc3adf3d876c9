"""What powerbridge tells of alerts: kept in memory for pictures, its news in the ledger; wishes for it."""

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from slurm_power import clock
from slurm_power.controller.answers.asked import need_operator, number
from slurm_power.controller.answers.user_socket import Caller, RefusedError
from slurm_power.controller.governance.operators import Note, actor_of
from slurm_power.wire import Message

if TYPE_CHECKING:
    from slurm_power.controller.daemon import Controller

_MOST_ALERTS = 500
_MOST_NEWS = 200
_MOST_WISHES = 20
_MOST_LETTERS = 300
_LONGEST_SILENCE_SECONDS = 30 * 86_400.0
_SILENT_SECONDS = 60.0
_NAME = re.compile(r"[\x21-\x7e]{1,200}\Z")
_KINDS = {"firing": "alert", "graver": "alert graver", "still": "alert still", "over": "alert over"}


class AlertDesk:
    """The alerts of one site, as powerbridge says, and what operators want of it."""

    def __init__(self, note: Note) -> None:
        self._note = note
        self._alerts: list[dict[str, Any]] = []
        self._silences: list[dict[str, Any]] = []
        self._heard_seconds: float | None = None
        self._noted: dict[str, None] = {}
        self._wishes: dict[int, dict[str, Any]] = {}
        self._results: dict[int, dict[str, Any]] = {}
        self._last_wish = 0

    def rows(self) -> list[dict[str, Any]]:
        """The alerts that fire; of a bridge that is silent the last it said."""
        return list(self._alerts)

    def answer(self) -> Message:
        """Everything that is known, for operators."""
        heard = self._heard_seconds
        age_seconds = None if heard is None else clock.monotonic() - heard
        return {
            "alerts": self.rows(),
            "silences": list(self._silences),
            "age_seconds": None if age_seconds is None else round(age_seconds, 1),
            "heard": age_seconds is not None and age_seconds <= _SILENT_SECONDS,
            "results": {str(key): value for key, value in self._results.items()},
        }

    def take(self, request: Message) -> Message:
        """Take the bridge's word in place of the one before; answers what it is asked to do."""
        problems: list[str] = []
        alerts = _objects(request, "alerts", _MOST_ALERTS, problems)
        silences = _objects(request, "silences", _MOST_ALERTS, problems)
        news = _objects(request, "news", _MOST_NEWS, problems)
        results = request.get("results")
        if results is not None and not isinstance(results, dict):
            problems.append("results: must be an object")
        problems += [
            f"news.{at}: must have news_id, alert_id and news ({', '.join(_KINDS)})"
            for at, one in enumerate(news)
            if one.get("news") not in _KINDS
            or not all(isinstance(one.get(key), str) for key in ("news_id", "alert_id"))
        ]
        if problems:
            raise RefusedError("; ".join(problems))
        self._alerts, self._silences = alerts, silences
        self._heard_seconds = clock.monotonic()
        for one in news:
            self._write(one)
        for key, value in results.items() if isinstance(results, dict) else ():
            if key.isdecimal() and int(key) in self._wishes and isinstance(value, dict):
                del self._wishes[int(key)]
                self._results[int(key)] = value
        while len(self._results) > _MOST_WISHES:
            del self._results[next(iter(self._results))]
        return {"wishes": [{"wish_id": key, **wish} for key, wish in self._wishes.items()]}

    def _write(self, news: Mapping[str, Any]) -> None:
        """Put one piece of news into the ledger, once."""
        news_id = news["news_id"]
        if news_id in self._noted:
            return
        self._noted[news_id] = None
        if len(self._noted) > 10 * _MOST_NEWS:
            del self._noted[next(iter(self._noted))]
        summary, remark = (str(news.get(key) or "")[:_MOST_LETTERS] for key in ("summary", "remark"))
        effects = news.get("effects")
        self._note(
            "bridge",
            _KINDS[news["news"]],
            f"alert:{news['alert_id'][:200]}",
            f"{summary}; {remark}" if remark else summary,
            details={
                "severity": str(news.get("severity"))[:20],
                "effects": [str(effect)[:_MOST_LETTERS] for effect in effects[:10]]
                if isinstance(effects, list)
                else [],
            },
        )

    def wish(self, request: Message, who: str) -> Message:
        """Silence an alert, end a silence, or try the ways out; raises RefusedError with all problems."""
        kind, problems = request.get("wish"), []
        wish: dict[str, Any] = {"kind": kind, "who": who}
        if kind not in ("test", "silence", "unsilence"):
            problems.append("wish: not one of test, silence, unsilence")
        if len(self._wishes) >= _MOST_WISHES:
            problems.append("wish: powerbridge has not taken the last ones; does it run?")
        if kind in ("silence", "unsilence"):
            name = request.get("alert_id")
            if not isinstance(name, str) or not _NAME.match(name):
                problems.append("alert_id: missing; give an alert's id, or a rule's name")
            wish["alert_id"] = name
        if kind == "silence":
            seconds = number(request, "seconds")
            if seconds is None or not 0.0 < seconds <= _LONGEST_SILENCE_SECONDS:
                problems.append("seconds: a silence has an end; give seconds above 0, up to 30 days")
            reason = str(request.get("reason") or "").strip()[:_MOST_LETTERS]
            if not reason or any("\ud800" <= letter <= "\udfff" for letter in reason):
                problems.append("reason: missing or no text; it is what others will read")
            wish |= {"seconds": seconds, "reason": reason}
        if problems:
            raise RefusedError("; ".join(problems))
        self._last_wish += 1
        self._wishes[self._last_wish] = wish
        if kind != "test":
            seconds, reason = wish.get("seconds"), wish.get("reason") or "taken back"
            subject = f"alert:{wish['alert_id']}"
            self._note(
                actor_of(who),
                "alert silenced" if kind == "silence" else "silence over",
                subject,
                reason,
                details={"seconds": seconds},
            )
        return {"wish_id": self._last_wish}


def alerts(controller: "Controller", request: Message, caller: Caller) -> Message:
    """Tell, take, or ask something of the alerts; only for operators."""
    need_operator(caller, "see or change alerts")
    desk = controller.alerts
    if "wish" in request:
        return desk.wish(request, caller.who)
    return desk.take(request) if "alerts" in request else desk.answer()


def _objects(request: Message, key: str, most: int, problems: list[str]) -> list[dict[str, Any]]:
    value = request.get(key, [])
    if not isinstance(value, list) or len(value) > most or not all(isinstance(one, dict) for one in value):
        problems.append(f"{key}: must be a list of at most {most} objects")
        return []
    return value
