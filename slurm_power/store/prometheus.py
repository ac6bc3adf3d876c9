"""Series out to a Prometheus-compatible engine by text import, and back by PromQL."""

import http.client
import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import SplitResult, urlencode, urlsplit

from slurm_power import clock
from slurm_power.model.series import Point, Resolution
from slurm_power.ports import StoreError

_IMPORT_PATH = "/api/v1/import/prometheus"
# Not the names that powerctld is scraped under: both in one engine must not add up.
_PREFIX = "slurm_power_recorded_"
_TIMEOUT_SECONDS = 10.0
# A query names so many series at most, and asks for so many points of each: engines bound both.
_MOST_NAMES = 200
_MOST_POINTS = 10_000
# Without a beginning this much is looked through.
_LONGEST_LOOK = timedelta(days=3660)
_TOMORROW = timedelta(days=1)


def metric_of(name: str) -> str:
    """Metric of a series: ``gpu.c1.GPU-1.watts`` is a ``slurm_power_recorded_gpu_watts``."""
    kind, _, rest = name.partition(".")
    word = rest.rpartition(".")[2]
    return _PREFIX + re.sub(r"[^a-zA-Z0-9_]", "_", f"{kind}_{word}" if word else kind)


class _Client:
    """One connection to the engine, made again when it breaks."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self._parts: SplitResult = urlsplit(self.url)
        self._connection: http.client.HTTPConnection | None = None

    def ask(self, path: str, body: bytes, kind: str) -> bytes:
        """POST and return the answer; raises StoreError."""
        fresh = self._connection is None
        try:
            return self._ask_once(path, body, kind)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            if fresh:
                raise StoreError(f"{self.url}: {str(error) or type(error).__name__}") from error
        try:  # a connection kept open may have been closed over there meanwhile
            return self._ask_once(path, body, kind)
        except (OSError, http.client.HTTPException) as error:
            self.close()
            raise StoreError(f"{self.url}: {str(error) or type(error).__name__}") from error

    def _ask_once(self, path: str, body: bytes, kind: str) -> bytes:
        if self._connection is None:
            made = (
                http.client.HTTPSConnection if self._parts.scheme == "https" else http.client.HTTPConnection
            )
            self._connection = made(str(self._parts.hostname), self._parts.port, timeout=_TIMEOUT_SECONDS)
        self._connection.request("POST", self._parts.path + path, body, {"Content-Type": kind})
        answer = self._connection.getresponse()
        text = answer.read()
        if answer.status >= 300:
            said = text[:200].decode(errors="replace").strip()
            raise StoreError(f"{self.url}{path}: {answer.status} {answer.reason}: {said}")
        return text

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class PrometheusWriter:
    """Sends each tick as one import; what is not known is left out. Raises StoreError."""

    def __init__(self, url: str, site: str) -> None:
        self._client = _Client(url)
        self._site = _quoted(site)
        self._heads: dict[str, str] = {}

    def add(self, at: datetime, values: Mapping[str, float | None]) -> None:
        """Add one tick of named values."""
        stamp = round(at.timestamp() * 1000.0)
        if len(self._heads) > 4 * len(values) + 1000:
            self._heads.clear()  # jobs come and go
        lines = [
            f"{self._head(name)} {value!r} {stamp}\n"
            for name, value in values.items()
            if value is not None and math.isfinite(value)
        ]
        if lines:
            self._client.ask(_IMPORT_PATH, "".join(lines).encode(), "text/plain")

    def _head(self, name: str) -> str:
        head = self._heads.get(name)
        if head is None:
            head = f"{metric_of(name)}{{site={self._site},series={_quoted(name)}}}"
            self._heads[name] = head
        return head

    def close(self) -> None:
        """Hang up."""
        self._client.close()


class PrometheusReader:
    """Reads the series of one site back. Means are over ticks, coverage counts one tick a second."""

    def __init__(self, url: str, site: str) -> None:
        self._client = _Client(url)
        self._site = _quoted(site)

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def names(self) -> list[str]:
        """Names of all series, in order; raises StoreError."""
        end = clock.now() + _TOMORROW
        found = self._get(
            "/api/v1/series",
            {
                "match[]": f'{{__name__=~"{_PREFIX}.+",site={self._site}}}',
                "start": f"{(end - _LONGEST_LOOK).timestamp():.3f}",
                "end": f"{end.timestamp():.3f}",
            },
        )
        return sorted({str(labels["series"]) for labels in found})

    def read(
        self,
        names: Sequence[str],
        since: datetime | None = None,
        until: datetime | None = None,
        resolution: Resolution = Resolution.RAW,
    ) -> dict[str, list[Point]]:
        """Points that touch [since, until), by series, oldest first, RAW by default; raises StoreError."""
        last = (until or clock.now() + _TOMORROW).timestamp()
        first = (clock.now() - _LONGEST_LOOK).timestamp() if since is None else since.timestamp()
        found: dict[str, list[Point]] = {name: [] for name in names}
        for start in range(0, len(names), _MOST_NAMES):
            some = names[start : start + _MOST_NAMES]
            if resolution is Resolution.RAW:
                self._read_raw(some, first, last, found)
            else:
                self._read_rolled(some, first, last, int(resolution), found)
        return found

    def _selector(self, names: Sequence[str]) -> str:
        metrics = "|".join(sorted({metric_of(name) for name in names}))
        asked = _quoted("|".join(re.escape(name).replace(r"\-", "-") for name in names))
        return f'{{__name__=~"{metrics}",site={self._site},series=~{asked}}}'

    def _read_raw(
        self, names: Sequence[str], first: float, last: float, found: dict[str, list[Point]]
    ) -> None:
        # A range reaches back from its moment, without its beginning: a millisecond less makes [first, last).
        span_ms = round((last - first) * 1000.0)
        if span_ms <= 0:
            return
        result = self._query(
            "/api/v1/query", f"{self._selector(names)}[{span_ms}ms]", {"time": f"{last - 0.001:.3f}"}
        )
        for series in result:
            found[series["metric"]["series"]] += [
                Point(float(at), float(text), float(text), float(text), 1.0) for at, text in series["values"]
            ]

    def _read_rolled(
        self, names: Sequence[str], first: float, last: float, width: int, found: dict[str, list[Point]]
    ) -> None:
        selector = self._selector(names)
        for start, end in _pieces(first, last, width):
            # Each point speaks for the interval that ends a millisecond after it.
            span = {"start": f"{start + width - 0.001:.3f}", "end": f"{end - 0.001:.3f}", "step": str(width)}
            table: dict[tuple[str, int], list[float]] = {}
            for function in ("avg", "min", "max", "count"):
                result = self._query(
                    "/api/v1/query_range", f"{function}_over_time({selector}[{width}s])", span
                )
                for series in result:
                    for at, text in series["values"]:
                        key = (series["metric"]["series"], round(float(at) + 0.001) - width)
                        table.setdefault(key, []).append(float(text))
            for (name, at_seconds), row in sorted(table.items()):
                if len(row) == 4:  # a tick may come in between two of the queries
                    mean, least, most, count = row
                    found[name].append(Point(float(at_seconds), mean, least, most, min(1.0, count / width)))

    def _query(self, path: str, query: str, more: Mapping[str, str]) -> list[dict[str, Any]]:
        # nocache keeps VictoriaMetrics from shifting the moments asked for.
        data = self._get(path, {"query": query, "nocache": "1", **more})
        return list(data["result"])

    def _get(self, path: str, fields: Mapping[str, str]) -> Any:
        text = self._client.ask(path, urlencode(fields).encode(), "application/x-www-form-urlencoded")
        try:
            answer = json.loads(text)
            if answer["status"] != "success":
                raise StoreError(f"{self._client.url}{path}: {answer.get('error')}")
            return answer["data"]
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"{self._client.url}{path}: no answer of a Prometheus API: {text[:80]!r}"
            ) from error


def _pieces(first: float, last: float, width: int) -> Iterator[tuple[float, float]]:
    """Whole intervals that touch [first, last), in pieces of as many points as an engine gives at once."""
    start = first // width * width
    end = math.ceil(last / width) * width
    while start < end:
        yield start, min(start + width * _MOST_POINTS, end)
        start += width * _MOST_POINTS


def _quoted(text: str) -> str:
    """A label's value, as the text format and PromQL both write it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
