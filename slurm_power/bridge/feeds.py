"""Prices and carbon intensities of a signal into the CSV files that ``[supply]`` reads."""

import csv
import io
import logging
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from slurm_power.bridge.grid_events import Price
from slurm_power.bridge.state_file import write_whole

_KEEP = timedelta(days=3)

log = logging.getLogger(__name__)


class Feed:
    """One file of times and values; rows of earlier days stay in it for a while."""

    def __init__(self, file: Path, heading: str) -> None:
        self._file = file
        self._heading = heading
        self._rows = _read(file)
        self._written = ""
        self._told = ""

    def put(self, prices: Sequence[Price], now: datetime) -> str:
        """Take all values that are known now, others count no more; returns why the file cannot be written.

        What it returns is empty where the file is written.
        """
        if not prices and not self._rows:
            return ""
        ordered = sorted(prices, key=lambda one: one.starts_at)
        # What is told now counts from its begin on; what was told before and is past stays.
        first = ordered[0].starts_at if ordered else None
        self._rows = {
            at: value
            for at, value in self._rows.items()
            if at <= now and (first is None or now - _KEEP <= at < first)
        }
        last = self._rows[max(self._rows)] if self._rows else None
        if (last and (first is None or first > now)) or (last is None and first is None):
            # What was told of now and later has been taken back; without any row the file would be refused.
            self._rows[now] = ""
        for number, price in enumerate(ordered):
            self._rows[price.starts_at] = f"{price.value:.6g}"
            after = ordered[number + 1] if number + 1 < len(ordered) else None
            if after is None or after.starts_at > price.ends_at:
                self._rows[price.ends_at] = ""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(["time", self._heading])
        table.writerows([at.astimezone(UTC).isoformat(), value] for at, value in sorted(self._rows.items()))
        if text.getvalue() == self._written and self._file.exists():
            return ""
        try:
            write_whole(self._file, text.getvalue())
            self._written = text.getvalue()
        except OSError as error:
            problem = f"{self._file} cannot be written: {error.strerror or error}"
            if problem != self._told:
                log.error("%s", problem)
            self._told = problem
            return problem
        self._told = ""
        return ""


def _read(file: Path) -> dict[datetime, str]:
    try:
        with file.open(newline="") as lines:
            return {datetime.fromisoformat(row[0]): row[1] for row in list(csv.reader(lines))[1:]}
    except (OSError, ValueError, IndexError, csv.Error):
        return {}
