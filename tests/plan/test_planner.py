from dataclasses import replace

from slurm_power.model.action import HoldJob, Plan, ReleaseJob, SetCap, SetDischarge
from slurm_power.model.job import Flex, JobState
from slurm_power.model.reading import Quality
from slurm_power.model.site import LimitKind
from slurm_power.model.snapshot import HoldLease, LimitEvent, Snapshot
from slurm_power.plan.planner import plan_cycle
from slurm_power.plan.policy import Policy
from tests.plan.situations import cap_lease, ess_reading, pending, running, site, situation

POLICY = Policy()


def plan(snapshot: Snapshot, policy: Policy = POLICY) -> Plan:
    return plan_cycle(snapshot, policy, hold_seconds=60.0)


def discharge(found: Plan) -> float | None:
    return next((a.discharge_watts for a in found.actions if isinstance(a, SetDischarge)), None)


def caps(found: Plan) -> dict[str, float | None]:
    return {a.job_id: a.cap_watts for a in found.actions if isinstance(a, SetCap)}


def held(found: Plan) -> set[str]:
    return {a.job_id for a in found.actions if isinstance(a, HoldJob)}


def released(found: Plan) -> set[str]:
    return {a.job_id for a in found.actions if isinstance(a, ReleaseJob)}


def test_nothing_to_do_below_the_limit() -> None:
    full = ess_reading(soc_ratio=0.9)
    found = plan(situation(import_watts=20_000.0, jobs=(running("1", ("c1",)),), ess=full))
    assert found == Plan()


def test_the_battery_carries_what_is_above_the_target() -> None:
    found = plan(situation(import_watts=32_000.0, jobs=(running("1", ("c1",)),)))
    assert discharge(found) == 32_000.0 - 30_000.0 * 0.98
    assert caps(found) == {}


def test_discharge_already_flowing_counts_as_load() -> None:
    carrying = ess_reading(discharge_watts=3000.0)
    found = plan(situation(import_watts=29_400.0, ess=carrying, setpoint_watts=3000.0))
    assert discharge(found) == 3000.0


def test_recent_high_load_keeps_the_battery_from_following_a_swing_down() -> None:
    found = plan(situation(import_watts=29_000.0, recent_load_watts=(31_000.0, 30_400.0)))
    assert discharge(found) == 31_000.0 - 29_400.0


def test_an_emptying_battery_hands_over_to_caps() -> None:
    low = ess_reading(
        soc_ratio=0.22, energy_rating_kwh=10.0
    )  # 0.2 kWh left above the reserve: 2.4 kW for 300 s
    found = plan(situation(import_watts=33_400.0, jobs=(running("1", ("c1",)),), ess=low))
    assert discharge(found) == 4000.0  # still bridging
    (cap,) = caps(found).values()
    assert cap is not None
    assert 8 * (650.0 - cap) >= 4000.0 - 2400.0


def test_an_empty_battery_is_left_alone() -> None:
    empty = ess_reading(soc_ratio=0.2)
    found = plan(situation(import_watts=32_000.0, jobs=(running("1", ("c1", "c2")),), ess=empty))
    assert discharge(found) is None
    assert caps(found)["1"] is not None


def test_the_most_flexible_jobs_are_capped_first_and_no_further_than_promised() -> None:
    jobs = (
        running("1", ("c1",), flex=Flex.FLEX1),
        running("2", ("c2",), flex=Flex.FLEX3),
        running("3", ("c3",), flex=Flex.FLEX0),
    )
    found = plan(situation(of=site(with_ess=False), import_watts=30_400.0, jobs=jobs))
    assert set(caps(found)) == {"2"}
    much = plan(situation(of=site(with_ess=False), import_watts=33_400.0, jobs=jobs))
    assert set(caps(much)) == {"1", "2"}
    assert "3" not in caps(much)
    for action in much.actions:
        if isinstance(action, SetCap):
            assert action.slowdown_ratio <= {"1": 0.10, "2": 0.50}[action.job_id] + 1e-9


def test_what_no_lever_can_save_is_said() -> None:
    jobs = (running("1", ("c1",), flex=Flex.FLEX0),)
    found = plan(situation(of=site(with_ess=False), import_watts=40_000.0, jobs=jobs))
    assert [s.circuit for s in found.shortfalls] == ["grid"]
    assert abs(found.shortfalls[0].watts - 10_600.0) < 1.0


def test_a_safety_limit_goes_beyond_promises_and_says_so() -> None:
    jobs = (running("1", ("c1", "c2"), flex=Flex.FLEX0),)
    tight = site(with_ess=False, rack_limit_watts=9000.0)
    over = situation(
        of=tight,
        import_watts=20_000.0,
        rack_watts=(11_000.0, 9000.0),
        jobs=jobs,
        lasting_watts={"rack1": 10_900.0},
    )
    found = plan(over)
    (action,) = (a for a in found.actions if isinstance(a, SetCap))
    assert action.kind is LimitKind.SAFETY
    assert "beyond the promise" in action.reason
    assert action.cap_watts is not None
    assert action.cap_watts >= 0.45 * 700.0


def test_neither_a_spike_nor_an_estimate_breaks_a_promise() -> None:
    jobs = (running("1", ("c1", "c2"), flex=Flex.FLEX1),)
    tight = site(with_ess=False, rack_limit_watts=9000.0)
    spike = situation(of=tight, rack_watts=(14_000.0, 6000.0), jobs=jobs, lasting_watts={"rack1": 8500.0})
    (action,) = (a for a in plan(spike).actions if isinstance(a, SetCap))
    assert action.slowdown_ratio <= 0.10 + 1e-9
    starting = (running("1", ("c1", "c2"), flex=Flex.FLEX0, started_seconds_ago=1.0),)
    expected = situation(of=tight, rack_watts=(3000.0, 3000.0), jobs=starting, gpu_watts={"1": 75.0})
    assert caps(plan(expected)) == {}


def test_a_battery_bridges_what_is_only_expected() -> None:
    jobs = (
        running("1", ("c1",), flex=Flex.FLEX3),
        running("2", ("c2",), started_seconds_ago=1.0, state=JobState.STARTING),
    )
    low = ess_reading(soc_ratio=0.22)  # 2.4 kW for long, 8 kW at once
    found = plan(situation(import_watts=26_000.0, jobs=jobs, gpu_watts={"2": 75.0}, ess=low))
    assert caps(found) == {}
    assert discharge(found) is not None
    alone = situation(of=site(with_ess=False), import_watts=26_000.0, jobs=jobs, gpu_watts={"2": 75.0})
    assert "1" in caps(plan(alone))


def test_no_cap_is_set_above_the_devices_own_limit() -> None:
    jobs = (running("1", ("c1",), flex=Flex.FLEX3),)
    found = plan(situation(of=site(with_ess=False), import_watts=29_500.0, jobs=jobs, gpu_watts={"1": 880.0}))
    assert all(watts is not None and watts < 700.0 for watts in caps(found).values())
    assert caps(found)


def test_an_economic_limit_never_touches_flex0() -> None:
    jobs = (running("1", ("c1", "c2"), flex=Flex.FLEX0),)
    found = plan(situation(of=site(with_ess=False), import_watts=60_000.0, jobs=jobs))
    assert caps(found) == {}


def test_a_fresh_cap_is_not_doubled_before_it_shows() -> None:
    jobs = (running("1", ("c1",), flex=Flex.FLEX3),)
    young = {"1": cap_lease("1", 500.0, changed_seconds_ago=1.0, lowered_watts=150.0)}
    found = plan(
        situation(
            of=site(with_ess=False), import_watts=30_400.0, jobs=jobs, gpu_watts={"1": 650.0}, caps=young
        )
    )
    assert caps(found) == {"1": 500.0}  # 1,000 W are needed, 1,200 W are on their way


def test_what_the_highest_of_some_readings_hides_is_not_taken_twice() -> None:
    jobs = (running("1", ("c1",), flex=Flex.FLEX3),)
    for age_seconds, expected in ((3.5, 500.0), (5.0, 375.0)):
        lease = {"1": cap_lease("1", 500.0, changed_seconds_ago=age_seconds, lowered_watts=150.0)}
        found = plan(
            situation(
                of=site(with_ess=False),
                import_watts=30_400.0,
                jobs=jobs,
                gpu_watts={"1": 500.0},
                caps=lease,
                recent_load_watts=(30_400.0, 29_500.0, 29_200.0),
            )
        )
        assert caps(found) == {"1": expected}


def test_what_was_given_back_and_does_not_show_yet_is_not_given_twice() -> None:
    jobs = (running("1", ("c1",), flex=Flex.FLEX3), running("2", ("c3",), flex=Flex.FLEX3))
    for unseen_watts, expected in ((0.0, 430.0), (20.0, 410.0), (200.0, 400.0)):
        leases = {
            "1": cap_lease("1", 400.0),
            "2": cap_lease("2", 420.0, changed_seconds_ago=1.0, lowered_watts=-unseen_watts),
        }
        found = plan(
            situation(
                of=site(with_ess=False),
                import_watts=27_960.0,
                jobs=jobs,
                gpu_watts={"1": 400.0, "2": 400.0},
                caps=leases,
            )
        )
        # 29.4 kW are allowed, 1.2 kW of them kept free: 240 W for eight GPUs.
        assert caps(found) == {"1": expected, "2": 420.0}


def test_caps_are_raised_after_their_dwell_and_lifted_when_loose() -> None:
    jobs = (running("1", ("c1",), flex=Flex.FLEX3),)
    for age_seconds, expected in ((2.0, 500.0), (60.0, None)):
        lease = {"1": cap_lease("1", 500.0, changed_seconds_ago=age_seconds)}
        found = plan(
            situation(
                of=site(with_ess=False), import_watts=20_000.0, jobs=jobs, gpu_watts={"1": 500.0}, caps=lease
            )
        )
        assert caps(found) == {"1": expected}


def test_a_little_room_raises_a_cap_a_little() -> None:
    jobs = (running("1", ("c1",), flex=Flex.FLEX3),)
    lease = {"1": cap_lease("1", 500.0)}
    snapshot = situation(
        of=site(with_ess=False), import_watts=27_700.0, jobs=jobs, gpu_watts={"1": 500.0}, caps=lease
    )
    cap = caps(plan(snapshot))["1"]
    assert cap is not None
    assert 500.0 < cap < 650.0
    assert 8 * (cap - 500.0) <= 29_400.0 - 27_700.0


def test_a_starting_job_is_counted_before_it_draws() -> None:
    starting = running("1", ("c1",), started_seconds_ago=1.0, state=JobState.STARTING)
    found = plan(situation(import_watts=27_000.0, jobs=(starting,), gpu_watts={"1": 75.0}))
    watts = discharge(found)
    assert watts is not None
    assert watts > 3000.0


def test_no_charging_while_a_lever_is_pulled_and_never_above_the_target() -> None:
    low = ess_reading(soc_ratio=0.4)
    jobs = (running("1", ("c1",)),)
    charging = discharge(plan(situation(import_watts=25_400.0, ess=low, jobs=jobs)))
    assert charging is not None
    assert -4000.0 <= charging < 0.0
    capped = situation(
        import_watts=25_400.0, ess=low, jobs=jobs, caps={"1": cap_lease("1", 500.0, changed_seconds_ago=1.0)}
    )
    assert discharge(plan(capped)) is None


def test_a_battery_in_local_mode_or_alarm_or_unknown_is_not_commanded() -> None:
    for reading in (
        ess_reading(remote=False),
        ess_reading(alarms=("over temperature",)),
        ess_reading(quality=Quality.INVALID),
    ):
        assert discharge(plan(situation(import_watts=35_000.0, ess=reading))) is None


def test_pending_jobs_that_do_not_fit_are_held() -> None:
    found = plan(situation(import_watts=26_000.0, jobs=(pending("7", 16),)))
    assert held(found) == {"7"}
    fits = plan(situation(import_watts=15_000.0, jobs=(pending("7", 8),)))
    assert held(fits) == set()


def test_room_goes_to_the_first_submitted() -> None:
    jobs = (pending("8", 8, submitted_seconds_ago=10.0), pending("7", 8, submitted_seconds_ago=90.0))
    found = plan(situation(import_watts=20_000.0, jobs=jobs))
    assert held(found) == {"8"}


def test_flex0_user_holds_and_later_begins_are_never_held() -> None:
    jobs = (
        pending("1", 16, flex=Flex.FLEX0),
        pending("2", 16, held_by_user=True),
        pending("3", 16, begin_in_seconds=3600.0),
    )
    assert held(plan(situation(import_watts=29_000.0, jobs=jobs))) == set()


def test_a_hold_ends_when_there_is_room_or_the_promise_is_used_up() -> None:
    lease = {"7": HoldLease(job_id="7", held_seconds=100.0, ends_in_seconds=50.0)}
    roomy = plan(situation(import_watts=10_000.0, jobs=(pending("7", 8),), holds=lease))
    assert released(roomy) == {"7"}
    tight = plan(situation(import_watts=29_000.0, jobs=(pending("7", 8),), holds=lease))
    assert released(tight) == set()
    used_up = {"7": HoldLease(job_id="7", held_seconds=1800.0, ends_in_seconds=50.0)}
    patient = plan(situation(import_watts=29_000.0, jobs=(pending("7", 8),), holds=used_up))
    assert released(patient) == {"7"}


def test_a_hold_is_renewed_before_it_ends() -> None:
    for ends_in_seconds, expected in ((50.0, set()), (30.0, {"7"})):
        lease = {"7": HoldLease(job_id="7", held_seconds=100.0, ends_in_seconds=ends_in_seconds)}
        found = plan(situation(import_watts=29_000.0, jobs=(pending("7", 8),), holds=lease))
        assert held(found) == expected


def test_a_stale_meter_reads_as_full() -> None:
    blind = situation(
        import_watts=5000.0,
        import_age_seconds=30.0,
        rack_watts=(0.0, 0.0),
        jobs=(running("1", ("c1",)), pending("7", 8)),
        caps={"1": cap_lease("1", 500.0)},
        setpoint_watts=1000.0,
    )
    lost = Snapshot(
        at=blind.at,
        site=blind.site,
        circuits={"grid": blind.circuits["grid"]},
        ess=blind.ess,
        nodes=blind.nodes,
        jobs=blind.jobs,
        caps=blind.caps,
        setpoints=blind.setpoints,
    )
    found = plan(lost)
    assert held(found) == {"7"}
    assert caps(found) == {"1": 500.0}
    assert discharge(found) == 1000.0
    assert any("grid" in note for note in found.notes)


def test_racks_stand_in_for_a_lost_grid_meter() -> None:
    found = plan(situation(import_watts=None, rack_watts=(16_000.0, 16_000.0)))
    assert discharge(found) == 32_000.0 - 29_400.0


def test_racks_that_stand_in_prove_no_room() -> None:
    jobs = (running("1", ("c1",), flex=Flex.FLEX3), pending("7", 8))
    low = ess_reading(soc_ratio=0.3)
    blind = situation(
        import_watts=None,
        rack_watts=(5000.0, 3000.0),
        jobs=jobs,
        gpu_watts={"1": 500.0},
        ess=low,
        caps={"1": cap_lease("1", 500.0)},
    )
    found = plan(blind)
    assert discharge(found) is None
    assert caps(found) == {"1": 500.0}
    assert held(found) == {"7"}
    assert discharge(plan(situation(import_watts=None, rack_watts=(5000.0, 3000.0), ess=low))) is None


def test_an_event_lowers_the_limit_only_while_it_lasts() -> None:
    def event(start: float, end: float) -> LimitEvent:
        return LimitEvent(
            event_id="ev-1",
            circuit="grid",
            limit_watts=20_000.0,
            starts_in_seconds=start,
            ends_in_seconds=end,
            reason="asked by the utility",
        )

    for start, end, active in ((-1.0, 10.0, True), (5.0, 10.0, False), (-10.0, 0.0, False)):
        found = plan(
            situation(import_watts=24_000.0, ess=ess_reading(soc_ratio=0.8), events=(event(start, end),))
        )
        assert (discharge(found) is not None) is active


def test_a_job_array_is_counted_with_all_tasks_that_could_start() -> None:
    found = plan(situation(import_watts=22_000.0, jobs=(pending("7", 1, task_count=100),)))
    assert held(found) == {"7"}


def test_an_unreachable_job_is_not_asked_for_savings() -> None:
    ghost = running("1", ("c1",), flex=Flex.FLEX3)
    snapshot = situation(of=site(with_ess=False), import_watts=35_000.0, jobs=(ghost,))
    blind = Snapshot(
        at=snapshot.at,
        site=snapshot.site,
        circuits=snapshot.circuits,
        ess={},
        nodes={},
        jobs=snapshot.jobs,
    )
    found = plan(blind)
    assert caps(found) == {}
    assert found.shortfalls


def test_a_battery_that_was_not_commissioned_is_not_commanded() -> None:
    proven = situation(import_watts=30_400.0)
    assert discharge(plan(proven)) is not None
    assert discharge(plan(replace(proven, ess={"battery": replace(ess_reading(), trusted=False)}))) is None
