"""What circuits lack for long: counted without caps and pauses, less batteries and jobs that end."""

from dataclasses import replace

import pytest

from slurm_power.model.grid_event import Commitment
from slurm_power.model.snapshot import Snapshot
from slurm_power.plan.lasting_needs import Need, Shortages, lasting_needs, present_needs
from slurm_power.plan.loads import load_table
from tests.plan.situations import cap_lease, ess_reading, site
from tests.plan.tier_situations import POLICY, consenting, event, facing


def needs(seen: Snapshot, lead_seconds: float = 300.0) -> tuple[Need, ...]:
    return lasting_needs(seen, load_table(seen, POLICY), POLICY, lead_seconds=lead_seconds)


def limited(seen: Snapshot, limit_watts: float) -> Snapshot:
    grid = replace(seen.site.circuits["grid"], limit_watts=limit_watts)
    return replace(seen, site=replace(seen.site, circuits={**seen.site.circuits, "grid": grid}))


def test_a_need_is_what_is_above_the_level_of_the_event() -> None:
    (need,) = needs(facing())
    assert need.circuit == "grid"
    assert need.watts == pytest.approx(10_000.0 - 0.98 * 8_000.0)
    assert (need.starts_in_seconds, need.lasts_seconds, need.since_seconds) == (120.0, 3_600.0, 180.0)


def test_it_stays_the_same_under_the_caps_that_bridge_it() -> None:
    """Half an hour into the event, the job capped to 450 W a GPU: the need is that of before."""
    running = event(starts_in=-1_800.0)
    capped = facing(events=(running,), import_watts=8_800.0)
    capped = replace(capped, caps={"1": cap_lease("1", 450.0, uncapped_watts=600.0)})
    nodes = {
        name: replace(node, gpus={uuid: replace(gpu, power_watts=450.0) for uuid, gpu in node.gpus.items()})
        for name, node in capped.nodes.items()
    }
    (before,), (bridged,) = needs(facing(events=(running,))), needs(replace(capped, nodes=nodes))
    assert bridged.watts == pytest.approx(before.watts)


def test_what_a_battery_carries_to_the_end_is_no_need() -> None:
    seen = replace(facing(), site=site(grid_limit_watts=30_000.0, with_ess=True))
    small = replace(seen, ess={"battery": ess_reading(energy_rating_kwh=2.0)})
    large = replace(seen, ess={"battery": ess_reading(energy_rating_kwh=40.0)})
    (need,) = needs(small)
    assert 0.0 < need.watts < 10_000.0 - 0.98 * 8_000.0
    assert needs(large) == ()


def test_jobs_that_will_have_ended_are_no_need() -> None:
    ending = consenting(time_limit_seconds=700.0)
    assert needs(facing((ending,))) == ()
    # One that runs on long after its limit is kept to none.
    assert len(needs(facing((consenting(time_limit_seconds=0.0),)))) == 1
    assert len(needs(facing((consenting(time_limit_seconds=None),)))) == 1


def test_a_spike_is_no_need_and_neither_is_what_nobody_measures() -> None:
    assert needs(facing(lasting_watts={"grid": 7_000.0, "rack1": 6_000.0})) == ()
    assert needs(facing(circuits={})) == ()


def test_nobody_was_promised_a_best_effort() -> None:
    (need,) = needs(facing(events=(replace(event(), commitment=Commitment.BEST_EFFORT),)))
    assert not need.urgent
    assert need.limit_watts == 8_000.0


def test_present_needs_do_not_ask_how_long() -> None:
    seen = limited(facing(events=()), 9_000.0)
    (need,) = present_needs(seen, load_table(seen, POLICY), POLICY)
    assert need.watts == pytest.approx(10_000.0 - 0.98 * 9_000.0)
    assert needs(seen) == ()


def test_a_shortage_is_remembered_until_there_is_room_to_spare() -> None:
    shortages = Shortages()
    short, tight, roomy = (limited(facing(events=()), watts) for watts in (9_000.0, 10_400.0, 11_000.0))
    assert shortages.seconds(100.0) == {}
    shortages.look(short, POLICY, 100.0)
    assert shortages.seconds(160.0) == {"grid": 60.0}
    shortages.look(tight, POLICY, 200.0)
    shortages.look(short, POLICY, 300.0)
    assert shortages.seconds(400.0) == {"grid": 300.0}
    shortages.look(roomy, POLICY, 500.0)
    assert shortages.seconds(600.0) == {}
    shortages.look(short, POLICY, 700.0)
    shortages.look(replace(short, circuits={}), POLICY, 800.0)
    assert shortages.seconds(900.0) == {}


def test_a_standing_shortage_is_taken_to_last_as_long_again() -> None:
    seen = limited(facing(events=()), 9_000.0)
    assert needs(replace(seen, short_seconds={"grid": 599.0})) == ()
    (need,) = needs(replace(seen, short_seconds={"grid": 1_000.0}))
    assert (need.lasts_seconds, need.starts_in_seconds) == (1_000.0, 0.0)
    (long,) = needs(replace(seen, short_seconds={"grid": 1e6}))
    assert long.lasts_seconds == 4 * 3_600.0
