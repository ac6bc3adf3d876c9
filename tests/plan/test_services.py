"""Services: another tier only where there is room for both, one at a time, and back without flapping."""

from dataclasses import replace

import pytest

from slurm_power.model.action import HoldJob, Plan, SwitchService
from slurm_power.model.job import Flex, Workload
from slurm_power.model.service import Backend, BackendState, Service, ServiceLease
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.tier import Catalog, PowerSource
from slurm_power.plan.planner import guard_cycle, plan_cycle, room_for_starts
from slurm_power.plan.policy import Policy
from slurm_power.plan.services import overlap_room
from tests.plan.situations import ess_reading, pending, running, site
from tests.plan.tier_situations import FULL, HALF, POLICY, catalog, event, facing, family, planned, tier

CHAT = Service(
    name="chat",
    user="alice",
    account="physics",
    family="digits",
    full_tier="full",
    tiers_ok=("half",),
    serving="full",
    backends=(Backend(tier="full", state=BackendState.SERVING, job_id="1"),),
)
SERVER = running("1", ("c1",), flex=Flex.FLEX0, workload=Workload.INFERENCE)


def served(service: Service = CHAT, **more: object) -> Snapshot:
    """The service's own tier on rack1 of a site that draws 10 kW, and an event at 8 kW two minutes off."""
    return facing((SERVER,), **{"services": {service.name: service}, **more})  # type: ignore[arg-type]  # fields


def on_half(*, asked: float = 900.0, draws_kw: float = 7.0, **more: object) -> Snapshot:
    """The light tier serves; nothing is ahead."""
    light = replace(
        CHAT,
        serving="half",
        backends=(
            Backend(tier="full", state=BackendState.STOPPED),
            Backend(tier="half", state=BackendState.SERVING, job_id="1"),
        ),
    )
    words: dict[str, object] = {
        "events": (),
        "import_watts": 1000.0 * draws_kw,
        "services": {"chat": light},
        "service_leases": {"chat": lease("half", asked)},
    }
    job = running("1", ("c1",), flex=Flex.FLEX0, workload=Workload.INFERENCE, gpus_per_node=4)
    return facing((job,), **{**words, **more})  # type: ignore[arg-type]  # fields of the snapshot


def lease(name: str, asked_seconds_ago: float) -> ServiceLease:
    return ServiceLease(
        service="chat", tier=name, kind=LimitKind.ECONOMIC, asked_seconds_ago=asked_seconds_ago
    )


def switches(plan: Plan) -> list[tuple[str, str | None]]:
    return [(one.service, one.tier) for one in plan.actions if isinstance(one, SwitchService)]


def test_a_service_is_switched_before_an_event() -> None:
    (switch,) = [one for one in planned(served()).actions if isinstance(one, SwitchService)]
    assert (switch.service, switch.tier, switch.kind) == ("chat", "half", LimitKind.ECONOMIC)
    assert switch.saved_watts == pytest.approx(3_000.0)
    assert switch.booked_watts == pytest.approx(4 * (600.0 - 75.0 + 225.0))
    assert "serves with half (accuracy 0.98) on 4 GPUs" in switch.reason


@pytest.mark.parametrize(
    ("service", "families"),
    [
        (replace(CHAT, tiers_ok=()), catalog()),
        (replace(CHAT, tiers_ok=("small",), min_quality=0.95), catalog()),
        (replace(CHAT, age_seconds=31.0), catalog()),
        (replace(CHAT, family="unheard"), catalog()),
        (replace(CHAT, requests_per_second=90.0), catalog()),
        (CHAT, catalog(family(FULL, tier("half", 4, value=0.5)))),
        (CHAT, catalog(family(FULL, tier("half", 4, source=PowerSource.PROXY)))),
        (CHAT, catalog(family(FULL, tier("half", 4, approved_by="")))),
        (CHAT, Catalog()),
    ],
    ids=[
        "no consent",
        "not good enough",
        "its gateway is silent",
        "a family nobody knows",
        "more requests than it can carry",
        "below the floor",
        "power guessed",
        "not approved",
        "no catalog",
    ],
)
def test_what_is_never_asked_of_a_service(service: Service, families: Catalog) -> None:
    assert switches(planned(served(service, catalog=families))) == []


def test_it_is_too_early_and_too_short() -> None:
    assert switches(planned(served(events=(event(starts_in=250.0),)))) == []
    assert switches(planned(served(events=(event(starts_in=230.0),)))) == [("chat", "half")]
    assert switches(planned(served(events=(event(lasts=300.0),)))) == []


def test_without_room_for_both_nothing_is_asked() -> None:
    """The site may draw 12 kW and draws 10: the light tier needs 3 kW beside the own one."""
    seen = served()
    grid = replace(seen.site.circuits["grid"], limit_watts=12_000.0)
    seen = replace(seen, site=replace(seen.site, circuits={**seen.site.circuits, "grid": grid}))
    assert overlap_room(seen, POLICY, CHAT, "half") == pytest.approx(10_000.0 + 3_000.0 - 0.98 * 12_000.0)
    assert switches(planned(seen)) == []


def test_a_limit_that_is_missed_anyway_does_not_keep_what_saves_more_from_starting() -> None:
    """An event without notice: nothing can be capped, so until the switch its limit is missed as it is."""
    now = served(events=(event(starts_in=0.0, lasts=3600.0),))
    assert overlap_room(now, POLICY, CHAT, "half") == 0.0
    assert switches(planned(now)) == [("chat", "half")]
    grid = replace(now.site.circuits["grid"], rating_watts=12_000.0)
    tight = replace(now, site=replace(now.site, circuits={**now.site.circuits, "grid": grid}))
    assert overlap_room(tight, POLICY, CHAT, "half") == pytest.approx(10_000.0 + 3_000.0 - 0.98 * 12_000.0)
    breaker = replace(grid, rating_watts=99_000.0, limit_watts=9_000.0, limit_kind=LimitKind.SAFETY)
    at_breaker = replace(now, site=replace(now.site, circuits={**now.site.circuits, "grid": breaker}))
    assert (overlap_room(at_breaker, POLICY, CHAT, "half") or 0.0) > 0.0


def test_a_battery_bridges_the_way_to_a_lighter_tier_and_not_back() -> None:
    where = site(grid_limit_watts=12_000.0, with_ess=True)
    full = {"battery": ess_reading(max_watts=4_000.0, energy_rating_kwh=0.2)}
    seen = replace(served(), site=where, ess=full)
    assert overlap_room(seen, POLICY, CHAT, "half") == 0.0
    light = replace(on_half(draws_kw=10.0), site=where, ess=full)
    assert overlap_room(light, POLICY, light.services["chat"], "full") == pytest.approx(
        10_000.0 + 6_000.0 - 0.98 * 12_000.0
    )


def test_nobody_can_tell_the_room_for_what_is_unknown() -> None:
    assert overlap_room(served(), POLICY, CHAT, "unheard") is None
    assert overlap_room(served(), POLICY, replace(CHAT, age_seconds=99.0), "half") is None
    unknown = catalog(family(FULL, tier("half", 4, watts_per_gpu=None)))
    assert overlap_room(served(catalog=unknown), POLICY, CHAT, "half") is None
    assert overlap_room(served(), POLICY, CHAT, "full") == 0.0


def test_a_lost_meter_leaves_no_room() -> None:
    seen = served(circuits={})
    assert (overlap_room(seen, POLICY, CHAT, "half") or 0.0) > 0.0


def test_what_is_booked_is_no_room_for_starts_and_none_for_another_service() -> None:
    asked = served(service_leases={"chat": lease("half", 5.0)})
    before, booked = room_for_starts(served(), POLICY), room_for_starts(asked, POLICY)
    assert before["grid"] - booked["grid"] == pytest.approx(3_000.0)
    other = replace(
        CHAT, name="mail", backends=(Backend(tier="full", state=BackendState.SERVING, job_id="9"),)
    )
    second = running("9", ("c2",), flex=Flex.FLEX0, workload=Workload.INFERENCE)
    both = replace(asked, services={"chat": CHAT, "mail": other}, jobs=(SERVER, second))
    grid = replace(both.site.circuits["grid"], limit_watts=15_000.0)
    both = replace(both, site=replace(both.site, circuits={**both.site.circuits, "grid": grid}))
    assert overlap_room(both, POLICY, CHAT, "half") == 0.0
    assert overlap_room(both, POLICY, other, "half") == pytest.approx(
        10_000.0 + 2 * 3_000.0 - 0.98 * 15_000.0
    )
    # Its job has been placed: the start itself is expected now, and booked no longer.
    started = replace(
        CHAT, backends=(*CHAT.backends, Backend(tier="half", state=BackendState.STARTING, job_id="2"))
    )
    placed = replace(
        asked,
        services={"chat": started},
        jobs=(SERVER, running("2", ("c3",), workload=Workload.INFERENCE, gpus_per_node=4)),
    )
    assert overlap_room(placed, POLICY, started, "half") == 0.0


@pytest.mark.parametrize("job_id", ["", "4711", "1"])
def test_who_only_says_that_it_serves_books_nothing(job_id: str) -> None:
    """Any user can speak for services: none of them may take the room for everybody's starts."""
    words = replace(
        CHAT, serving="small", backends=(Backend(tier="small", state=BackendState.SERVING, job_id=job_id),)
    )
    made_up = {f"s{number}": replace(words, name=f"s{number}") for number in range(20)}
    there = room_for_starts(served(), POLICY)
    seen = served(services={"chat": CHAT, **made_up})
    at_most = 0.0 if job_id != "1" else 8 * (600.0 - 75.0 + 225.0)  # one job that runs books for one service
    assert there["grid"] - room_for_starts(seen, POLICY)["grid"] == pytest.approx(at_most)


def test_a_start_does_not_take_the_room_of_an_overlap() -> None:
    seen = served(events=())
    seen = replace(seen, jobs=(SERVER, pending("7", 4, workload=Workload.INFERENCE)))
    grid = replace(seen.site.circuits["grid"], limit_watts=15_000.0)
    seen = replace(seen, site=replace(seen.site, circuits={**seen.site.circuits, "grid": grid}))
    assert not any(isinstance(one, HoldJob) for one in planned(seen).actions)
    asked = replace(seen, service_leases={"chat": lease("half", 5.0)})
    assert [one.job_id for one in planned(asked).actions if isinstance(one, HoldJob)] == ["7"]


def test_a_switch_under_way_is_renewed_and_not_taken_twice() -> None:
    asked = served(service_leases={"chat": lease("half", 30.0)})
    assert switches(planned(asked)) == [("chat", "half")]
    assert switches(guard_cycle(asked, POLICY)) == [("chat", "half")]
    assert switches(planned(replace(asked, events=()))) == [("chat", "half")]


def test_one_service_is_asked_at_a_time() -> None:
    other = replace(
        CHAT, name="mail", backends=(Backend(tier="full", state=BackendState.SERVING, job_id="2"),)
    )
    jobs = (SERVER, running("2", ("c2",), flex=Flex.FLEX0, workload=Workload.INFERENCE))
    seen = facing(
        jobs, import_watts=18_000.0, events=(event(13_000.0),), services={"chat": CHAT, "mail": other}
    )
    assert len(switches(planned(seen))) == 1
    (first,) = switches(planned(seen))
    asked = {first[0]: replace(lease("half", 10.0), service=first[0])}
    assert len(switches(planned(replace(seen, service_leases=asked)))) == 2


def test_back_to_its_own_tier_once_there_is_room_for_both() -> None:
    seen = on_half()
    assert switches(planned(seen)) == [("chat", None)]
    (switch,) = [one for one in planned(seen).actions if isinstance(one, SwitchService)]
    assert switch.booked_watts == pytest.approx(6_000.0)
    # The way back has begun: it is booked, and not asked again.
    assert switches(planned(replace(seen, service_leases={}))) == []
    free, booked = room_for_starts(seen, POLICY), room_for_starts(replace(seen, service_leases={}), POLICY)
    assert free["grid"] - booked["grid"] == pytest.approx(6_000.0)


def test_reasons_to_stay_on_the_light_tier() -> None:
    tight = on_half(draws_kw=22.5)
    for seen in (
        on_half(asked=500.0),
        tight,
        on_half(events=(event(9_000.0, starts_in=700.0),)),
        on_half(events=(event(9_000.0, starts_in=-60.0),)),
        on_half(circuits={}),
    ):
        assert switches(planned(seen)) == [("chat", "half")]
    # No light tier is left for an event that its own one fits into.
    assert switches(planned(on_half(events=(event(20_000.0, starts_in=-60.0),)))) == [("chat", None)]
    assert switches(guard_cycle(on_half(), POLICY)) == [("chat", "half")]


def test_a_lease_ends_where_consent_or_catalog_no_longer_allow_it() -> None:
    seen = on_half(events=(event(starts_in=-60.0),))
    withdrawn = {"chat": replace(seen.services["chat"], tiers_ok=())}
    assert switches(planned(replace(seen, services=withdrawn))) == [("chat", None)]
    refused = catalog(family(FULL, tier("half", 4, value=0.5)))
    assert switches(guard_cycle(replace(seen, catalog=refused), POLICY)) == [("chat", None)]
    assert switches(planned(seen, Policy(tier_moves=False))) == [("chat", None)]


def test_a_silent_gateway_keeps_its_lease_as_it_is() -> None:
    seen = on_half()
    silent = {"chat": replace(seen.services["chat"], age_seconds=31.0)}
    assert switches(planned(replace(seen, services=silent))) == [("chat", "half")]


def test_an_idle_service_comes_before_a_busy_one() -> None:
    worse = catalog(family(FULL, replace(HALF, quality=tier("x", 1, value=0.95).quality)))
    busy = replace(CHAT, requests_per_second=80.0)
    idle = replace(
        CHAT,
        name="mail",
        requests_per_second=1.0,
        backends=(Backend(tier="full", state=BackendState.SERVING, job_id="2"),),
    )
    jobs = (SERVER, running("2", ("c2",), flex=Flex.FLEX0, workload=Workload.INFERENCE))
    seen = facing(
        jobs,
        import_watts=18_000.0,
        events=(event(16_500.0),),
        services={"chat": busy, "mail": idle},
        catalog=worse,
    )
    assert switches(planned(seen)) == [("mail", "half")]


def test_a_switch_there_and_back_does_not_flap() -> None:
    """After the way back, with its own tier serving again, the same site is left alone."""
    back = facing((SERVER,), import_watts=10_000.0, events=(), services={"chat": CHAT})
    assert switches(plan_cycle(back, POLICY, hold_seconds=60.0)) == []
