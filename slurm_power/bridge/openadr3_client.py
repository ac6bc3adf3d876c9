"""The requests of a VEN to a VTN of OpenADR 3: token, programs, events by pages, reports."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import httpx

from slurm_power import clock
from slurm_power.bridge.bounded_http import PACKED, Answer, AnswerError, bounded, tls_context, whole_answer
from slurm_power.bridge.grid_events import printable
from slurm_power.config.address import address_problems
from slurm_power.config.signals import OpenAdr3Signal

PAGE = 50
"""The most that the interface gives at once."""
_MOST_PAGES = 20
# What is asked for at each round; the rest is asked for once.
_KEPT = ("/events", "/programs")
_MOST_BYTES = 4_000_000
# A token is asked for anew so long before it ends, or at half its life if that is shorter.
_EARLY_SECONDS = 30.0
_TOKEN_SECONDS = 3600.0
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _CONFLICT, _UNCHANGED = 401, 403, 404, 409, 304


class LoginError(AnswerError):
    """There is no token; ``status`` says nothing of what the token was for."""


class OpenAdr3Client:
    """One VTN. Everything read is bounded; nothing read is trusted."""

    def __init__(self, signal: OpenAdr3Signal) -> None:
        self._signal = signal
        self._base = signal.url.rstrip("/")
        self._token = ""
        self._token_ends_seconds = 0.0
        self._known: dict[str, tuple[str, Any]] = {}
        self.clock_doubt = ""
        tls = tls_context(signal.ca_file, signal.cert_file, signal.key_file)
        self._http = httpx.AsyncClient(
            verify=tls, timeout=signal.timeout_seconds, follow_redirects=False, trust_env=False
        )

    async def close(self) -> None:
        """Hang up."""
        await self._http.aclose()

    async def everything(self, path: str, **query: str | list[str]) -> list[dict[str, Any]]:
        """All objects of a list, page by page, each id once; raises AnswerError."""
        found: dict[str, dict[str, Any]] = {}
        for page in range(_MOST_PAGES):
            wanted = {**query, "skip": str(page * PAGE), "limit": str(PAGE)}
            rows = await self._request("GET", path, query=wanted, keep=path in _KEPT)
            if not isinstance(rows, list):
                raise AnswerError(f"{path}: is no list")
            for row in rows:
                if not isinstance(row, dict) or not isinstance(row.get("id"), str):
                    raise AnswerError(f"{path}: has something without an id")
                found[row["id"]] = row
            if len(rows) < PAGE:
                return list(found.values())
        raise AnswerError(f"{path}: more than {_MOST_PAGES * PAGE} objects")

    async def event(self, event_id: str) -> dict[str, Any] | None:
        """One event, None where it is gone; raises AnswerError."""
        try:
            found = await self._request("GET", f"/events/{quote(event_id, safe='')}")
        except AnswerError as error:
            if error.status in (_NOT_FOUND, _FORBIDDEN) and not isinstance(error, LoginError):
                return None
            raise
        return found if isinstance(found, dict) else None

    async def register(self) -> None:
        """Have the VTN know this VEN and its meter, as 3.1 wants it or else as 3.0; raises AnswerError."""
        name = self._signal.ven_name
        ven = await self._named("/vens", "venName", name)
        if ven is None:
            ven = await self._created("/vens", {"objectType": "VEN_VEN_REQUEST", "venName": name})
        ven_id = str(ven.get("id"))
        resource = self._signal.resource_name
        words = {"objectType": "VEN_RESOURCE_REQUEST", "resourceName": resource, "venID": ven_id}
        try:
            if await self._named("/resources", "resourceName", resource, venID=ven_id) is None:
                await self._created("/resources", words)
        except AnswerError as error:
            if error.status != _NOT_FOUND:
                raise
            path = f"/vens/{quote(ven_id, safe='')}/resources"
            if await self._named(path, "resourceName", resource) is None:
                await self._created(path, {"resourceName": resource, "objectType": "RESOURCE"})

    async def _named(self, path: str, key: str, name: str, **more: str) -> dict[str, Any] | None:
        rows = await self.everything(path, **{key: name}, **more)
        return next((row for row in rows if row.get(key) == name), None)

    async def _created(self, path: str, words: Mapping[str, Any]) -> dict[str, Any]:
        try:
            found = await self._request("POST", path, body=words)
        except AnswerError as error:
            if error.status != _CONFLICT:
                if "objectType" in words and error.status in (400, 422):  # 3.0 has other words for it
                    rest = {key: value for key, value in words.items() if key not in ("objectType", "venID")}
                    return await self._created(path, rest)
                raise
            found = {}
        return found if isinstance(found, dict) else {}

    async def report(self, report: Mapping[str, Any]) -> None:
        """Send a report; one that is there already is as good. Raises AnswerError."""
        try:
            await self._request("POST", "/reports", body=report)
        except AnswerError as error:
            if error.status != _CONFLICT:
                raise

    async def _request(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | list[str]] | None = None,
        body: Mapping[str, Any] | None = None,
        keep: bool = False,
    ) -> Any:
        """One request with a valid token; with ``keep`` an unchanged answer is not sent again."""
        for attempt in range(2):
            headers = await self._headers()
            key = f"{path} {sorted((query or {}).items())}"
            if keep and key in self._known:
                name, _, value = self._known[key][0].partition("=")
                headers[name] = value
            answered, answer = await self._send(
                method, self._base + path, query=query, json_body=body, headers=headers
            )
            if answered.status != _UNAUTHORIZED or attempt:
                break
            self._token = ""
        if answered.status == _UNCHANGED and keep and key in self._known:
            return self._known[key][1]
        if not 200 <= answered.status < 300:
            raise _refusal(f"{method} {path}", answered, answer)
        if keep:
            self._known.pop(key, None)
            if answered.headers.get("etag"):
                self._known[key] = (f"If-None-Match={answered.headers['etag']}", answer)
            elif answered.headers.get("last-modified"):
                self._known[key] = (f"If-Modified-Since={answered.headers['last-modified']}", answer)
        return answer

    async def _headers(self) -> dict[str, str]:
        if not self._signal.client_id:
            return {}
        if not self._token or clock.monotonic() >= self._token_ends_seconds:
            await self._log_in()
        return {"Authorization": f"Bearer {self._token}"}

    async def _log_in(self) -> None:
        """OAuth 2 client credentials, RFC 6749 section 4.4."""
        file = self._signal.client_secret_file
        try:
            secret = "" if file is None else file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AnswerError(f"client_secret_file: {file} cannot be read: {error}") from None
        form = {
            "grant_type": "client_credentials",
            "client_id": self._signal.client_id,
            "client_secret": secret,
        }
        if self._signal.scope:
            form["scope"] = self._signal.scope
        url = self._signal.token_url or f"{self._base}/auth/token"
        answered, answer = await self._send("POST", url, form=form, headers={})
        if answered.status == _NOT_FOUND and not self._signal.token_url:
            elsewhere = await self._told_token_url()
            if elsewhere:
                answered, answer = await self._send("POST", elsewhere, form=form, headers={})
        token = answer.get("access_token") if isinstance(answer, dict) else None
        if answered.status != 200 or not isinstance(token, str) or not token.isprintable() or not token:
            refusal = _refusal("no token", answered, answer)
            raise LoginError(str(refusal), refusal.status, refusal.wait_seconds)
        lasts = answer.get("expires_in", _TOKEN_SECONDS)
        if isinstance(lasts, bool) or not isinstance(lasts, int | float) or not 0 < lasts < 1e9:
            lasts = _TOKEN_SECONDS
        self._token = token
        self._token_ends_seconds = clock.monotonic() + max(lasts - _EARLY_SECONDS, lasts / 2.0)

    async def _told_token_url(self) -> str:
        """Where a VTN of 3.1 says that its tokens are, empty where a secret must not be sent there."""
        answered, answer = await self._send("GET", f"{self._base}/auth/server", headers={})
        url = answer.get("tokenURL") if isinstance(answer, dict) else None
        if answered.status != 200 or not isinstance(url, str):
            return ""
        return "" if address_problems("tokenURL", url, example=url, danger="learn the secret") else url

    async def _send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str],
        query: Mapping[str, str | list[str]] | None = None,
        json_body: Mapping[str, Any] | None = None,
        form: Mapping[str, str] | None = None,
    ) -> tuple[Answer, Any]:
        """An answer and the JSON of its body, empty where it has none; raises AnswerError."""
        async with bounded(self._signal.timeout_seconds):
            answer = await whole_answer(
                self._http,
                method,
                url,
                most_bytes=_MOST_BYTES,
                params=query,
                json=json_body,
                data=form,
                headers={**headers, **PACKED},
            )
        self.clock_doubt = answer.clock_doubt
        if not answer.content:
            return answer, {}
        try:
            return answer, json.loads(answer.content)
        except (ValueError, RecursionError):
            if 200 <= answer.status < 300:
                raise AnswerError("its answer is no JSON") from None
            return answer, {}


def _refusal(what: str, answered: Answer, answer: Any) -> AnswerError:
    """The error for an answer that is none, with the time that it asks us to wait."""
    status = answered.status
    return AnswerError(f"{what}: {status} {_why(answer)}", status, answered.wait_seconds)


def _why(answer: Any) -> str:
    """What a refusal says, in the words of RFC 7807 or RFC 6749."""
    if not isinstance(answer, dict):
        return ""
    words = [str(answer[key]) for key in ("title", "detail", "error", "error_description") if answer.get(key)]
    return printable(": ".join(words), 160)
