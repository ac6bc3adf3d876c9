"""Every way of failing, in any order: no path leaks a cap, and a capped GPU always has its record on disk."""

import math
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from slurm_power.model.lease import LeaseKey, LeaseState, Lever
from slurm_power.model.site import LimitKind
from slurm_power.node.leases import Leases
from slurm_power.node.orders import GrantOrder
from slurm_power.node.saved_settings import SavedSetting, SavedSettings
from tests.fakes import FakeGpus, KilledError

UUIDS = ("GPU-a", "GPU-b", "GPU-c")
SAFE_WATTS = 350.0
uuids = st.sampled_from(UUIDS)
locks = st.sampled_from([6e8, 9e8, 1.2e9])
caps = st.sampled_from([100.0, 250.0, 350.0, 400.5, 650.0, 700.0, 900.0])


class LeaseMachine(RuleBasedStateMachine):
    """powerd's leases against GPUs and a disk that fail, with kills between any two device calls."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="sp-"))
        self.away = self.folder.with_suffix(".away")
        self.gpus = FakeGpus(*UUIDS)
        self.baseline = dict.fromkeys(UUIDS, 700.0)
        self.now = 0.0
        self.restart()

    def restart(self) -> None:
        """A new process: it knows only what is on disk."""
        self.repair_disk()
        self.leases = Leases(self.gpus, SavedSettings(self.folder), boot_id="boot", safe_cap_watts=SAFE_WATTS)
        self.leases.recover()

    def repair_disk(self) -> None:
        if self.away.exists():
            self.away.rename(self.folder)

    def on_disk(self) -> dict[LeaseKey, SavedSetting]:
        return dict(SavedSettings(self.away if self.away.exists() else self.folder).load())

    @rule(uuid=uuids, cap=caps, kind=st.sampled_from(LimitKind), ttl=st.sampled_from([1.0, 5.0, 100.0]))
    def grant(self, uuid: str, cap: float, kind: LimitKind, ttl: float) -> None:
        order = GrantOrder(
            lease_id=f"L{cap}",
            uuid=uuid,
            bound=cap,
            expires_at_seconds=self.now + ttl,
            kind=kind,
            job_id="7",
            reason="test",
        )
        self.leases.order(order)

    @rule(uuid=uuids, lock=locks, ttl=st.sampled_from([1.0, 5.0, 100.0]))
    def grant_lock(self, uuid: str, lock: float, ttl: float) -> None:
        order = GrantOrder(
            lease_id=f"L{lock}",
            uuid=uuid,
            lever=Lever.CLOCK_LOCK,
            bound=lock,
            expires_at_seconds=self.now + ttl,
            kind=LimitKind.ECONOMIC,
            job_id="7",
            reason="test",
        )
        self.leases.order(order)

    @rule(lock=locks)
    def release_lock(self, lock: float) -> None:
        self.leases.release([f"L{lock}"], "test")

    @rule(uuid=uuids, busy=st.booleans())
    def work(self, uuid: str, busy: bool) -> None:
        self.gpus.gpus[uuid].busy = busy

    @rule(cap=caps)
    def release(self, cap: float) -> None:
        self.leases.release([f"L{cap}"], "test")

    @rule()
    def release_job(self) -> None:
        self.leases.release_job("7", "job over")

    @rule()
    def end_all(self) -> None:
        self.leases.end_all("ending")

    @rule(connected=st.booleans())
    def controller(self, connected: bool) -> None:
        self.leases.controller_connected = connected

    @rule(seconds=st.sampled_from([0.1, 1.0, 10.0, 70.0]))
    def tick(self, seconds: float) -> None:
        self.now += seconds
        self.leases.tick(self.now)

    @rule(calls=st.integers(1, 12), again=st.booleans())
    def killed_in_a_tick(self, calls: int, again: bool) -> None:
        self.gpus.kill_at = calls
        try:
            self.leases.tick(self.now)
        except KilledError:
            if again:
                self.restart()
                self.gpus.kill_at = 1
                with suppress(KilledError):
                    self.leases.tick(self.now)
            self.restart()
        self.gpus.kill_at = None

    @rule()
    def killed(self) -> None:
        self.restart()

    @rule(
        uuid=uuids,
        fault=st.sampled_from(["lost", "refuses_writes", "ignores_writes", "writes_then_fails"]),
        on=st.booleans(),
    )
    def fault(self, uuid: str, fault: str, on: bool) -> None:
        setattr(self.gpus.gpus[uuid], fault, on)

    @rule(uuid=uuids, reads=st.integers(0, 3))
    def slow_to_settle(self, uuid: str, reads: int) -> None:
        self.gpus.gpus[uuid].settle_reads = reads

    @rule(uuid=uuids, watts=st.sampled_from([300.0, 1000.0]))
    def out_of_band(self, uuid: str, watts: float) -> None:
        self.gpus.gpus[uuid].out_of_band_watts = watts

    @rule(uuid=uuids, watts=st.sampled_from([250.0, 500.25, 700.0]))
    def foreign_write(self, uuid: str, watts: float) -> None:
        gpu = self.gpus.gpus[uuid]
        gpu.requested_watts = watts
        gpu.reads_until_settled = 0
        if LeaseKey(uuid, Lever.POWER_CAP) not in self.on_disk():
            self.baseline[uuid] = watts

    @precondition(lambda self: not self.away.exists())
    @rule()
    def disk_goes(self) -> None:
        self.folder.rename(self.away)

    @rule()
    def disk_returns(self) -> None:
        self.repair_disk()

    @invariant()
    def what_is_not_recorded_is_not_ours(self) -> None:
        records = self.on_disk()
        for uuid, gpu in self.gpus.gpus.items():
            cap, lock = LeaseKey(uuid, Lever.POWER_CAP), LeaseKey(uuid, Lever.CLOCK_LOCK)
            if cap in records:
                assert records[cap].previous == self.baseline[uuid], uuid
            else:
                assert gpu.requested_watts == self.baseline[uuid], uuid
            if lock in records:
                assert records[lock].previous == math.inf, uuid
            else:
                assert gpu.lock_hertz is None, uuid

    @invariant()
    def no_lease_without_a_record(self) -> None:
        assert {lease.key for lease in self.leases.leases()} <= set(self.on_disk())

    def teardown(self) -> None:
        try:
            self.repair_disk()
            for gpu in self.gpus.gpus.values():
                gpu.lost = gpu.refuses_writes = gpu.ignores_writes = gpu.writes_then_fails = False
            self.leases.end_all("ending")
            for _ in range(20):
                self.leases.tick(self.now)
            for lease in self.leases.leases():
                assert lease.state is LeaseState.SAFE
                assert lease.kind is LimitKind.SAFETY
                assert self.gpus.gpus[lease.uuid].requested_watts == min(
                    SAFE_WATTS, self.baseline[lease.uuid]
                )
            self.leases.release([lease.lease_id for lease in self.leases.leases()], "end")
            for _ in range(20):
                self.leases.tick(self.now)
            assert self.leases.leases() == ()
            assert self.on_disk() == {}
            assert all(gpu.lock_hertz is None for gpu in self.gpus.gpus.values())
            assert {uuid: gpu.requested_watts for uuid, gpu in self.gpus.gpus.items()} == self.baseline
        finally:
            shutil.rmtree(self.folder, ignore_errors=True)
            shutil.rmtree(self.away, ignore_errors=True)


TestLeases = LeaseMachine.TestCase
TestLeases.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
