"""Telemetry for a VTN of OpenADR 2.0b: what is offered, what was asked for, and the values that are due."""

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

from openleadr import enums

from slurm_power import clock
from slurm_power.bridge.meter_history import Measured
from slurm_power.bridge.openadr2_events import seconds_of
from slurm_power.bridge.openadr2_line import text_at
from slurm_power.bridge.openadr3_time import TimeError
from slurm_power.config.signals import OpenAdr2Signal

Mean = Callable[[datetime, datetime], Awaitable[Measured]]
POWER = "power"
SETTLE = timedelta(seconds=3)
_LEAST_SECONDS, _MOST_SECONDS = 1.0, 86_400.0
_MOST_INTERVALS = 500
_ENOUGH_RATIO = 0.9


@dataclass(slots=True, kw_only=True)
class ReportRequest:
    """A subscription: each ``back_seconds`` a report in steps of ``step_seconds``, from ``since`` on.

    0 for ``back_seconds``: one report alone.
    """

    request_id: str
    specifier_id: str
    step_seconds: float
    back_seconds: float
    since: str

    def due(self, now: datetime) -> list[tuple[datetime, datetime]]:
        """The steps of the reports that can be given now."""
        since = datetime.fromisoformat(self.since)
        step = timedelta(seconds=self.step_seconds)
        whole = timedelta(seconds=self.back_seconds)
        if now - SETTLE < since + whole:
            return []
        count = max(1, min(_MOST_INTERVALS, int(whole / step)))
        if not self.back_seconds:
            return [(since - step, since)]
        # After a long absence only the last report is of use.
        since += ((now - SETTLE - since) // whole - 1) * whole
        return [(since + number * step, since + (number + 1) * step) for number in range(count)]

    def done(self, now: datetime) -> bool:
        """Go on to the next report; True where there is none."""
        since = datetime.fromisoformat(self.since)
        whole = timedelta(seconds=self.back_seconds)
        if not self.back_seconds:
            return True
        self.since = (since + ((now - SETTLE - since) // whole) * whole).isoformat()
        return False

    def to_json(self) -> dict[str, Any]:
        """What must survive a restart."""
        return asdict(self)


def specifier_id(signal: OpenAdr2Signal) -> str:
    """The name of the offer, the same after each restart."""
    return f"{signal.resource_name}-usage"


def offer(signal: OpenAdr2Signal) -> list[dict[str, Any]]:
    """The reports as oadrRegisterReport offers them: the mean import of each step, in watts."""
    measurement = asdict(enums.MEASUREMENTS["POWER_REAL"])
    measurement["power_attributes"] = {"hertz": 50, "voltage": 230, "ac": True}
    target = {"resource_id": signal.resource_name}
    description = {
        "r_id": POWER,
        "market_context": None,
        "reading_type": enums.READING_TYPE.MEAN,
        "report_subject": None,
        "report_data_source": target,
        "report_type": enums.REPORT_TYPE.USAGE,
        "sampling_rate": {
            "min_period": timedelta(seconds=_LEAST_SECONDS),
            "max_period": timedelta(hours=1),
            "on_change": False,
        },
        "measurement": measurement,
    }
    return [
        {
            "report_specifier_id": specifier_id(signal),
            "report_name": enums.REPORT_NAME.TELEMETRY_USAGE,
            "report_request_id": "0",
            "report_descriptions": [description],
            "created_date_time": clock.now(),
            "duration": timedelta(hours=1),
        }
    ]


def requests_of(elements: Iterable[Any], signal: OpenAdr2Signal, now: datetime) -> list[ReportRequest]:
    """The report requests of a message; ones that nobody can serve are left out."""
    found = []
    for element in elements:
        request_id = text_at(element, "reportRequestID")
        asked = text_at(element, "reportSpecifier/reportSpecifierID")
        r_ids = [text_at(one, "rID") for one in element.iterfind("{*}reportSpecifier/{*}specifierPayload")]
        if not request_id or asked != specifier_id(signal) or POWER not in r_ids:
            continue
        try:
            step = seconds_of(text_at(element, "reportSpecifier/granularity/duration"), "granularity")
            back = seconds_of(text_at(element, "reportSpecifier/reportBackDuration/duration"), "back")
        except TimeError:
            continue
        step = step or signal.report_seconds
        step = min(max(step, _LEAST_SECONDS), _MOST_SECONDS)
        back = 0.0 if back == 0.0 else min(max(back, step), _MOST_SECONDS)
        found.append(
            ReportRequest(
                request_id=request_id,
                specifier_id=asked,
                step_seconds=step,
                back_seconds=back,
                since=now.isoformat(),
            )
        )
    return found


async def values_of(request: ReportRequest, now: datetime, mean: Mean) -> dict[str, Any]:
    """One oadrReport with the steps that are due; where the meter was silent its quality says so."""
    intervals = []
    for start, end in request.due(now):
        found = await mean(start, end)
        if found.watts is None:
            quality = "No Quality - No Value"
        elif found.coverage_ratio >= _ENOUGH_RATIO:
            quality = "Quality Good - Non Specific"
        else:
            quality = "Quality Uncertain - Non Specific"
        intervals.append(
            {
                "dtstart": start,
                "duration": end - start,
                "report_payload": {
                    "r_id": POWER,
                    "value": round(found.watts or 0.0, 3),
                    "data_quality": quality,
                    "confidence": round(100.0 * found.coverage_ratio),
                },
            }
        )
    return {
        "report_id": f"{request.request_id}-{intervals[0]['dtstart']:%Y%m%dT%H%M%S}",
        "report_request_id": request.request_id,
        "report_specifier_id": request.specifier_id,
        "report_name": enums.REPORT_NAME.TELEMETRY_USAGE,
        "created_date_time": now,
        "dtstart": intervals[0]["dtstart"],
        "intervals": intervals,
    }
