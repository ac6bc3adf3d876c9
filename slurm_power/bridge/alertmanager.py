"""Shows an Alertmanager what fires, again and again, by its API version 2: what is no longer shown ends."""

import asyncio
import json
import logging
import ssl
from datetime import timedelta
from typing import Any

import httpx

from slurm_power import clock
from slurm_power.bridge.alert_channels import DeliveryError, read_secret
from slurm_power.bridge.alert_messages import posted
from slurm_power.bridge.loose import plain, rows, table, words
from slurm_power.config.alerts import AlertmanagerConfig
from slurm_power.model.alert import Severity

log = logging.getLogger(__name__)

# An alert ends by itself there when it was not shown again for so many turns.
_LASTS_TURNS = 4.0
_LEAST_LASTS_SECONDS = 180.0
_TEST_SECONDS = 30.0
_MOST_AT_ONCE = 200
_MOST_ENDED = 1000
_FIRST_BACKOFF_SECONDS, _MOST_BACKOFF_SECONDS = 1.0, 300.0


class AlertmanagerOutbox:
    """One Alertmanager. ``failing``: why the last try failed, "" if it did not."""

    def __init__(
        self, config: AlertmanagerConfig, *, first_backoff_seconds: float = _FIRST_BACKOFF_SECONDS
    ) -> None:
        self.name = f"alertmanager.{config.name}"
        self.failing = ""
        self._config = config
        self._first_backoff_seconds = first_backoff_seconds
        self._url = f"{config.url.rstrip('/')}/api/v2/alerts"
        self._active: dict[str, dict[str, Any]] = {}
        self._ended: dict[str, dict[str, Any]] = {}
        self._changed = asyncio.Event()

    def show(self, firing: list[dict[str, Any]]) -> None:
        """Take over all that fires now, as messages; what is no longer among it has ended."""
        active = {
            _key(alert): alert
            for message in firing
            if Severity(message["severity"]).reaches(self._config.severity)
            and (message["rule"], message["cause"]) != ("delivery_failing", self.name)
            for alert in (posted(message, ""),)
        }
        now = clock.now().isoformat(timespec="milliseconds")
        for key in self._active.keys() - active.keys():
            self._ended[key] = {**self._active[key], "endsAt": now}
        for key in active:
            self._ended.pop(key, None)
        while len(self._ended) > _MOST_ENDED:
            del self._ended[next(iter(self._ended))]
        if active.keys() != self._active.keys():
            self._changed.set()
        self._active = active

    def to_json(self) -> dict[str, Any]:
        """What it was shown, for the next bridge."""
        return {"active": list(self._active.values()), "ended": list(self._ended.values())}

    def take_json(self, stored: object) -> None:
        """Go on with what an earlier bridge has shown."""
        self._active = {_key(row): dict(row) for row in rows(stored, "active") if table(row, "labels")}
        self._ended = {
            _key(row): dict(row)
            for row in rows(stored, "ended")
            if table(row, "labels") and words(row, "endsAt")
        }

    async def run(self) -> None:
        """Show what fires in each turn, and at once when it changes, until cancelled."""
        backoff_seconds = self._first_backoff_seconds
        while True:
            self._changed.clear()
            try:
                await self._post_all()
            except DeliveryError as error:
                if str(error) != self.failing:
                    log.error("%s: %s; trying again", self.name, error)
                self.failing = str(error)
                await asyncio.sleep(min(backoff_seconds, self._config.resend_seconds))
                backoff_seconds = min(2.0 * backoff_seconds, _MOST_BACKOFF_SECONDS)
                continue
            self.failing, backoff_seconds = "", self._first_backoff_seconds
            try:
                async with asyncio.timeout(self._config.resend_seconds):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def test(self, message: dict[str, Any]) -> str:
        """Show one message for half a minute; returns why it could not be, "" if it was."""
        ends = clock.now() + timedelta(seconds=_TEST_SECONDS)
        try:
            await self._post([posted(message, ends.isoformat(timespec="milliseconds"))])
        except DeliveryError as error:
            return str(error)
        return ""

    async def _post_all(self) -> None:
        lasts = max(_LASTS_TURNS * self._config.resend_seconds, _LEAST_LASTS_SECONDS)
        ends = (clock.now() + timedelta(seconds=lasts)).isoformat(timespec="milliseconds")
        ended = dict(self._ended)
        alerts = [*ended.values(), *({**alert, "endsAt": ends} for alert in self._active.values())]
        for first in range(0, len(alerts), _MOST_AT_ONCE):
            await self._post(alerts[first : first + _MOST_AT_ONCE])
        for key, alert in ended.items():
            if self._ended.get(key) is alert:
                del self._ended[key]

    async def _post(self, alerts: list[dict[str, Any]]) -> None:
        config = self._config
        headers = {"Content-Type": "application/json"}
        if config.token_file is not None:
            headers["Authorization"] = f"Bearer {read_secret(config.token_file)}"
        try:
            trusted = None if config.ca_file is None else str(config.ca_file)
            context: ssl.SSLContext | bool = True
            if config.url.startswith("https:"):
                context = ssl.create_default_context(cafile=trusted)
            # A proxy of the environment is for the world outside; this is a neighbour.
            async with httpx.AsyncClient(
                verify=context, timeout=config.timeout_seconds, follow_redirects=False, trust_env=False
            ) as client:
                async with asyncio.timeout(2.0 * config.timeout_seconds):
                    answer = await client.post(self._url, content=json.dumps(alerts), headers=headers)
        except TimeoutError:
            raise DeliveryError(f"{self._url} did not answer in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            text = str(error) or type(error).__name__
            raise DeliveryError(f"{self._url}: {text}") from None
        if not answer.is_success:
            raise DeliveryError(f"{self._url} answered {answer.status_code}: {plain(answer.text)}")


def _key(alert: Any) -> str:
    return json.dumps(dict(alert["labels"]), sort_keys=True)
