"""What is wrong with a site, cause by cause: tables of pictures."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_power.bridge.alert_rules import Beside, Thresholds, find
from slurm_power.bridge.alert_sources import Layout
from slurm_power.model.alert import RULES, Finding, Severity
from tests.bridge.picture import LAYOUT, bad, ess, event, picture, risk

DEAD = "stale for 9.0 s"
SILENT = "its daemon is silent"


def found(seen: dict[str, Any] | None, beside: Beside | None = None, **more: Any) -> dict[str, Finding]:
    findings = find(seen, beside or Beside(), LAYOUT, thresholds=Thresholds(), **more)
    by_id = {finding.alert_id: finding for finding in findings}
    assert len(by_id) == len(findings), "one cause told twice"
    return by_id


def test_a_site_where_all_is_well_has_nothing_to_tell() -> None:
    assert found(picture()) == {}


@pytest.mark.parametrize(
    ("seen", "ids"),
    [
        (picture(risks=(risk("above", "grid", 900.0),)), {"limit_at_risk:grid"}),
        (picture(risks=(risk("unmeasured", "rack2", None),)), {"limit_at_risk:rack2"}),
        # What the grid connection lacks its racks lack too: one cause.
        (
            picture(risks=(risk("above", "grid", 900.0), risk("above", "rack1", 100.0))),
            {"limit_at_risk:grid"},
        ),
        (
            picture(risks=(risk("above", "rack1", 900.0), risk("foreseen", "rack2", 100.0, 60.0))),
            {"limit_at_risk:rack1", "limit_at_risk:rack2"},
        ),
        (picture(levers={"exhausted": True, "reason": "empty"}), {"levers_exhausted:site"}),
        # With a limit at risk that alert says that no lever is left.
        (
            picture(risks=(risk("above", "grid", 900.0),), levers={"exhausted": True, "reason": "empty"}),
            {"limit_at_risk:grid"},
        ),
        (picture(risks=(risk("above", "grid", 900.0),), events=[event()]), {"event_undelivered:ev-1"}),
        # Above the circuit's own limit, too: that is no matter of the event alone.
        (picture(risks=(risk("above", "grid", 13_000.0),), events=[event()]), {"limit_at_risk:grid"}),
        # Not begun, and what is lacking is lacking now.
        (
            picture(risks=(risk("above", "grid", 900.0),), events=[event(starts_in_seconds=60.0)]),
            {"limit_at_risk:grid"},
        ),
        (
            picture(risks=(risk("foreseen", "grid", 900.0, 120.0),), events=[event(starts_in_seconds=100.0)]),
            {"event_undelivered:ev-1"},
        ),
        (picture(leases={"drifting": 2}), {"cap_drift:site"}),
        (picture(leases={"unrenewed": 2}), {"lease_unrenewed:site"}),
        (picture(mode="off"), {"control_paused:control"}),
        (picture(ess=[ess(discharge_watts=0.0)]), {"ess_not_following:battery"}),
        (picture(ess=[ess(discharge_watts=3500.0)]), set()),
        (picture(ess=[ess(setpoint_watts=None, discharge_watts=500.0)]), set()),
        (picture(ess=[ess(discharge_watts=0.0, quality="invalid")]), set()),
        (
            picture(forecast={"worker": "running", "beaten_by_naive": True, "skill_ratio": -0.2}),
            {"forecast_beaten:forecast"},
        ),
    ],
)
def test_causes(seen: dict[str, Any], ids: set[str]) -> None:
    assert set(found(seen)) == ids


@pytest.mark.parametrize(
    ("sources", "ids", "effects"),
    [
        ((bad("pdu2", "circuit rack2", "invalid", DEAD),), {"dead_source:host:pdu2.lan"}, 0),
        # A gateway that answers for two meters, and a meter above that disagrees since: one dead thing.
        (
            (
                bad("hall-meter", "circuit hall", "questionable", f"{DEAD}; estimated from what it feeds"),
                bad("pdu1", "circuit rack1", "invalid", DEAD),
                bad("meter", "circuit grid", "questionable", "900 W above what it feeds explains"),
            ),
            {"dead_source:host:gateway.lan"},
            2,
        ),
        (
            (
                bad("powerd.c1", "node c1, 8 GPUs", "questionable", "2 of 8 GPUs do not answer"),
                bad("GPU-1", "GPU 1 of c1", "invalid", "lost"),
                bad("GPU-2", "GPU 2 of c1", "invalid", "lost"),
            ),
            {"dead_source:node:c1"},
            2,
        ),
        (
            (
                bad("powerd.c1", "node c1", "invalid", SILENT),
                bad("powerd.c3", "node c3", "invalid", SILENT),
            ),
            {"dead_source:node:c1", "dead_source:node:c3"},
            0,
        ),
        # A rack without power: its PDU and all of its nodes.
        (
            (
                bad("pdu2", "circuit rack2", "invalid", DEAD),
                bad("powerd.c3", "node c3", "invalid", SILENT),
                bad("powerd.c4", "node c4", "invalid", SILENT),
            ),
            {"dead_source:nodes:rack2"},
            2,
        ),
        (
            tuple(bad(f"powerd.c{i}", f"node c{i}", "invalid", SILENT) for i in (1, 2, 3, 4)),
            {"dead_source:nodes:grid"},
            3,
        ),
        (
            tuple(
                bad(
                    f"powerd.c{i}",
                    f"node c{i}, 8 GPUs",
                    "questionable",
                    "its rack rack1 shows 90 W above what its GPUs explain",
                )
                for i in (1, 2)
            ),
            {"dead_source:circuit:rack1"},
            1,
        ),
        ((bad("slurmctld", "3 jobs", "invalid", "no list of jobs"),), {"dead_source:source:slurmctld"}, 0),
    ],
)
def test_one_alert_for_one_dead_thing(sources: tuple[Any, ...], ids: set[str], effects: int) -> None:
    alerts = found(picture(sources=sources))
    assert set(alerts) == ids
    assert sum(len(alert.effects) for alert in alerts.values()) == effects


def test_many_silent_nodes_of_a_large_site_are_one_alert_and_soon_judged() -> None:
    racks = {f"rack{rack}": [f"n{rack}-{node}" for node in range(20)] for rack in range(500)}
    layout = Layout(
        parents={"grid": None, **dict.fromkeys(racks, "grid")},
        circuits={node: rack for rack, nodes in racks.items() for node in nodes},
    )
    # powerctld lists 50 of those that are bad.
    silent = [bad(f"powerd.n{i}-0", f"node n{i}-0", "invalid", SILENT) for i in range(50)]
    began = time.monotonic()
    (alert,) = find(picture(sources=tuple(silent)), Beside(), layout, thresholds=Thresholds())
    assert alert.alert_id == "dead_source:nodes:grid"
    assert len(alert.covers) == 50
    assert time.monotonic() - began < 5.0


def test_a_circuit_that_nobody_measures_makes_its_dead_meter_grave() -> None:
    sources = (bad("pdu2", "circuit rack2", "invalid", DEAD), bad("powerd.c3", "node c3", "invalid", SILENT))
    alerts = found(picture(sources=sources, risks=(risk("unmeasured", "rack2", None),)))
    assert set(alerts) == {"dead_source:host:pdu2.lan", "dead_source:node:c3"}
    assert alerts["dead_source:node:c3"].severity is None
    alert = alerts["dead_source:host:pdu2.lan"]
    assert alert.severity is Severity.PAGE
    assert "nobody measures rack2" in alert.effects[0]


def test_leases_of_a_silent_node_are_no_cause_of_their_own() -> None:
    sources = (bad("powerd.c1", "node c1", "invalid", SILENT),)
    (alert,) = found(picture(sources=sources, leases={"unrenewed": 8})).values()
    assert alert.rule == "dead_source"
    assert any("8 leases" in effect for effect in alert.effects)


def test_the_lead_decides_how_grave_it_is() -> None:
    (soon,) = found(picture(risks=(risk("foreseen", "grid", 900.0, 600.0),))).values()
    (later,) = found(picture(risks=(risk("foreseen", "grid", 900.0, 3600.0),))).values()
    assert (soon.severity, later.severity) == (None, Severity.WARN)
    assert later.details["lead_seconds"] == "3600"


def test_a_site_that_only_watches_by_its_own_policy_is_not_told_so() -> None:
    watching = Thresholds(controls=False)
    assert find(picture(mode="off"), Beside(), LAYOUT, thresholds=watching) == []


def test_what_the_bridge_sees_needs_no_picture() -> None:
    beside = Beside(
        silent_reason="no such socket",
        free_ratios={"/var": 0.04, "/srv": 0.5},
        certificate_seconds={"ca.pem": 3600.0, "server.pem": 1e9},
        failing={"mail.ops": "refused"},
    )
    alerts = found(None, beside)
    assert set(alerts) == {
        "powerctld_silent:powerctld",
        "disk_full:/var",
        "certificate_expiring:ca.pem",
        "delivery_failing:mail.ops",
    }
    assert alerts["certificate_expiring:ca.pem"].severity is Severity.PAGE
    assert all(not RULES[alert.rule].needs_picture for alert in alerts.values())


def test_records() -> None:
    beside = Beside(
        ledger_broken_at=7, faults={"store:series": "disk full"}, delivered_ratios={"ev-1": 0.8, "ev-2": 1.0}
    )
    alerts = found(picture(), beside)
    assert set(alerts) == {"ledger_broken:ledger", "store_fault:store:series", "event_undelivered:ev-1"}


def test_what_was_told_ends_beyond_where_it_began() -> None:
    beside = Beside(free_ratios={"/var": 0.055})
    assert found(picture(), beside) == {}
    assert set(found(picture(), beside, firing=frozenset({"disk_full:/var"}))) == {"disk_full:/var"}
    hovering = picture(ess=[ess(discharge_watts=3300.0)])
    assert found(hovering) == {}
    assert set(found(hovering, firing=frozenset({"ess_not_following:battery"})))


JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=True) | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(sorted(picture())), JSON))
def test_no_picture_makes_it_stumble(spoiled: dict[str, Any]) -> None:
    for finding in find({**picture(), **spoiled}, Beside(), LAYOUT, thresholds=Thresholds()):
        assert finding.rule in RULES
        assert "\n" not in finding.summary
        json.dumps(dict(finding.details))
