"""Events of OpenADR 3 as JSON: what they become, and that no JSON whatever breaks their reader."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.bridge.grid_events import Level
from slurm_power.bridge.openadr3_events import ReadEvent, read_event
from slurm_power.bridge.openadr3_reports import due_reports
from slurm_power.bridge.openadr_levels import EventError
from slurm_power.config.signals import OpenAdr3Signal
from tests.plan.situations import site

AT = datetime(2026, 11, 28, 12, tzinfo=UTC)
SIGNAL = OpenAdr3Signal(
    name="u", url="https://v.example.org", ven_name="v", level_1_cut_ratio=0.1, level_3_cut_ratio=0.5
)
UNITS = [
    {"payloadType": "IMPORT_CAPACITY_LIMIT", "units": "KW"},
    {"payloadType": "DISPATCH_SETPOINT", "units": "MW"},
    {"payloadType": "IMPORT_CAPACITY_SUBSCRIPTION", "units": "W"},
    {"payloadType": "IMPORT_CAPACITY_RESERVATION", "units": "KW"},
]


def read(event: dict[str, Any], program: Any = None) -> ReadEvent:
    given = {"payloadDescriptors": UNITS} if program is None else program
    return read_event(event, given, SIGNAL, site().root, first_seen=AT, now=AT)


def event(*payloads: tuple[str, Any], **more: Any) -> dict[str, Any]:
    rows = [{"type": kind, "values": [value]} for kind, value in payloads]
    return {
        "id": "e",
        "programID": "p",
        "intervalPeriod": {"start": "2026-11-28T13:00:00Z", "duration": "PT1H"},
        "intervals": [{"id": 0, "payloads": rows}],
        **more,
    }


RELATIVE = [{"payloadType": "DISPATCH_SETPOINT_RELATIVE", "units": "KW"}]
PERCENT = [{"payloadType": "DISPATCH_SETPOINT_RELATIVE", "units": "percent"}]
LEVELS: list[tuple[str, dict[str, Any], Level | None]] = [
    ("a limit", event(("IMPORT_CAPACITY_LIMIT", 9)), Level(limit_watts=9_000.0)),
    ("a setpoint", event(("DISPATCH_SETPOINT", 0.01)), Level(limit_watts=10_000.0)),
    ("subscribed", event(("IMPORT_CAPACITY_SUBSCRIPTION", 8_000)), Level(limit_watts=8_000.0)),
    (
        "subscribed and granted",
        event(("IMPORT_CAPACITY_SUBSCRIPTION", 8_000), ("IMPORT_CAPACITY_RESERVATION", 2)),
        Level(limit_watts=10_000.0),
    ),
    ("granted alone", event(("IMPORT_CAPACITY_RESERVATION", 2)), None),
    ("level 1", event(("SIMPLE", 1)), Level(cut_ratio=0.1)),
    ("level 0", event(("SIMPLE", 0)), None),
    (
        "less",
        event(("DISPATCH_SETPOINT_RELATIVE", -3), payloadDescriptors=RELATIVE),
        Level(cut_watts=3_000.0),
    ),
    (
        "less by a share",
        event(("DISPATCH_SETPOINT_RELATIVE", -30), payloadDescriptors=PERCENT),
        Level(cut_ratio=0.3),
    ),
    ("more", event(("DISPATCH_SETPOINT_RELATIVE", 3), payloadDescriptors=RELATIVE), None),
    ("export", event(("EXPORT_CAPACITY_LIMIT", 3)), None),
]


@pytest.mark.parametrize(("told", "level"), [row[1:] for row in LEVELS], ids=[row[0] for row in LEVELS])
def test_payloads_become_levels(told: dict[str, Any], level: Level | None) -> None:
    found = read(told)
    assert [window.level for window in found.windows] == ([] if level is None else [level])


def test_equal_intervals_in_a_row_are_one_window_and_others_joined() -> None:
    intervals = [
        {"id": number, "payloads": [{"type": "IMPORT_CAPACITY_LIMIT", "values": [kilowatts]}]}
        for number, kilowatts in enumerate((9, 9, 9, 8))
    ]
    found = read({**event(), "intervals": intervals}).windows
    assert [(one.level.limit_watts, one.joined) for one in found] == [(9_000.0, True), (8_000.0, False)]
    assert found[0].ends_at - found[0].starts_at == timedelta(hours=3)
    longer = read({**event(), "intervals": [*intervals[:2], intervals[3]]}).windows
    assert longer[0].version != found[0].version


def test_what_is_not_followed_is_noted_and_the_rest_is() -> None:
    found = read(event(("IMPORT_CAPACITY_LIMIT", 9), ("CHARGE_STATE_SETPOINT", 50), ("PRICE", "dear")))
    assert len(found.windows) == 1
    assert found.notes == ("CHARGE_STATE_SETPOINT is not followed", "PRICE: 'dear' is no number")


words = st.sampled_from(
    ["SIMPLE", "PRICE", "GHG", "IMPORT_CAPACITY_LIMIT", "KW", "PT1H", "P9999Y", "0001-01-01", "id", "USAGE"]
) | st.text(max_size=8)
leaves = st.none() | st.booleans() | st.integers() | st.floats() | words
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)
keys = st.sampled_from(
    [
        *("id", "programID", "eventName", "duration", "priority", "targets", "payloadDescriptors"),
        *("reportDescriptors", "intervalPeriod", "intervals", "modificationDateTime"),
    ]
)
interval_keys = st.sampled_from(["id", "payloads", "intervalPeriod", "type", "values", "start", "duration"])


@given(st.dictionaries(keys, values, max_size=5), st.dictionaries(interval_keys, values, max_size=4), values)
def test_no_json_breaks_the_reader(change: dict[str, Any], interval: dict[str, Any], program: Any) -> None:
    told = event(("IMPORT_CAPACITY_LIMIT", 9), ("SIMPLE", 1), ("PRICE", 0.2), ("GHG", 300))
    told["intervals"] = [*told["intervals"], {**told["intervals"][0], **interval}]
    told |= change
    try:
        found = read(told, program if isinstance(program, dict) else {})
    except EventError as error:
        assert str(error)
        return
    for window in found.windows:
        assert window.reason.isprintable()
        assert not window.level.problem(site().root)
        assert window.until_revoked or window.ends_at >= window.starts_at
    assert all(abs(price.value) <= 1e6 for price in (*found.prices, *found.carbon))
    list(due_reports(found, AT + timedelta(hours=5), set()))
