"""What each lever costs per kWh it takes off a circuit: in money, and in GPU-hours of work by priority.

The one place for prices: what chooses a lever and what explains the choice both ask here. docs/prices.md
has the formulas with their sources.
"""

from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from slurm_power.model.job import Flex, Job
from slurm_power.model.reading import EssReading
from slurm_power.model.site import Ess
from slurm_power.model.snapshot import Snapshot
from slurm_power.model.tier import Family, Tier
from slurm_power.model.units import joules_from_kwh
from slurm_power.plan.fairness import debt_factors
from slurm_power.plan.policy import Policy

Value = TypeVar("Value", float, npt.NDArray[np.float64])

# However little is left in a battery: its price stays a number that can be compared.
_DEAREST_FACTOR = 100.0


@dataclass(frozen=True, slots=True)
class Price:
    """The cost of one kWh less at a circuit.

    ``money_per_kwh`` in the site's currency, fairness included. ``work_gpu_hours_per_kwh``: GPU-hours of
    work lost, weighted by flex class and account; 0 for a battery.
    """

    money_per_kwh: float
    work_gpu_hours_per_kwh: float = 0.0


class JobWeights:
    """How much a job's work counts: by its flex class, its account, and what its owner has lost already."""

    def __init__(self, snapshot: Snapshot, policy: Policy) -> None:
        self._flex = {
            Flex.FLEX0: policy.flex0_weight,
            Flex.FLEX1: policy.flex1_weight,
            Flex.FLEX2: policy.flex2_weight,
            Flex.FLEX3: policy.flex3_weight,
        }
        self._accounts = policy.weights_of_accounts()
        self._users = debt_factors(snapshot.debts, policy)
        self._in_debt = debt_factors(snapshot.account_debts, policy)

    def work(self, job: Job) -> float:
        """The priority weight alone: what an hour of its work counts against one of flex2."""
        return self.flex_weight(job.flex) * self.account_weight(job.account)

    def flex_weight(self, flex: Flex) -> float:
        """What a flex class's work counts against flex2's."""
        return self._flex[flex]

    def account_weight(self, account: str) -> float:
        """What an account's work counts: 1 where the policy does not say."""
        return self._accounts.get(account, 1.0)

    def debt_factor(self, job: Job) -> float:
        """What is added for fairness, at least 1: the larger of its user's and its account's."""
        if not self._users and not self._in_debt:
            return 1.0
        return max(self.user_factor(job.user), self.account_factor(job.account))

    def user_factor(self, user: str) -> float:
        """What is added for what a user has lost, at least 1."""
        return self._users.get(user, 1.0)

    def account_factor(self, account: str) -> float:
        """What is added for what an account has lost, at least 1."""
        return self._in_debt.get(account, 1.0)


def cap_work_per_kwh(slope: Value, gpu_count: Value, uncapped_watts: Value, circuit_watts: Value) -> Value:
    """GPU-hours a cap loses per kWh at a circuit that sees ``circuit_watts`` for each watt less a GPU.

    ``slope`` is the share of the performance lost per share of the uncapped power, at the cap's place on
    the curve. A watt less on each GPU loses ``slope / uncapped_watts`` of ``gpu_count`` GPUs.
    """
    return 1000.0 * slope * gpu_count / (uncapped_watts * circuit_watts)


def cap_price(
    policy: Policy,
    weights: JobWeights,
    job: Job,
    *,
    slope: float,
    uncapped_watts: float,
    circuit_watts: float,
) -> Price:
    """The price of one more watt of cap on a job."""
    gpus = float(job.gpu_count or len(job.gpu_uuids))
    work = cap_work_per_kwh(slope, gpus, max(uncapped_watts, 1.0), circuit_watts)
    work *= weights.work(job)
    return Price(work * policy.value_per_gpu_hour * weights.debt_factor(job), work)


def pause_work_per_kwh(
    performance: Value, gpu_count: Value, saved_watts: Value, cost_seconds: float, lasts_seconds: Value
) -> Value:
    """GPU-hours a pause loses per kWh at a circuit that sees ``saved_watts`` less of it.

    A stopped job does nothing, so it loses all the ``performance`` that its cap had left to it (a share);
    stopping and getting going again cost ``cost_seconds`` of full speed, once in ``lasts_seconds``.
    """
    return 1000.0 * gpu_count * (performance + cost_seconds / lasts_seconds) / saved_watts


def pause_price(
    policy: Policy,
    weights: JobWeights,
    job: Job,
    *,
    performance: float,
    saved_watts: float,
    lasts_seconds: float,
) -> Price:
    """The price of a pause that is expected to last for so long."""
    gpus = float(job.gpu_count or len(job.gpu_uuids))
    work = pause_work_per_kwh(
        performance, gpus, max(saved_watts, 1.0), policy.pause_cost_seconds, max(lasts_seconds, 1.0)
    )
    work *= weights.work(job)
    return Price(work * policy.value_per_gpu_hour * weights.debt_factor(job), work)


def quality_loss_ratio(family: Family, current: Tier, lighter: Tier) -> float:
    """The share of the family's metric that a lighter tier loses against the current one, 0 where none.

    Where the current one was never measured the best of the family stands for it.
    """
    measured = [tier.quality.value for tier in family.tiers if tier.quality is not None]
    if lighter.quality is None or not measured:
        return 1.0
    if current.quality is not None:
        before = current.quality.value
    else:
        before = max(measured) if family.higher_is_better else min(measured)
    drop = before - lighter.quality.value if family.higher_is_better else lighter.quality.value - before
    return max(0.0, drop) / max(abs(before), 1e-9)


def tier_slowdown_ratio(current: Tier, lighter: Tier) -> float:
    """The share of its speed that a job loses on a lighter tier, 0 where it loses none.

    Where nobody has measured both, speed is taken to go with the GPUs.
    """
    before, after = current.items_per_second, lighter.items_per_second
    if before is None or after is None:
        before, after = float(current.gpu_count), float(lighter.gpu_count)
    return max(0.0, 1.0 - after / before) if before > 0.0 else 0.0


def tier_work_per_hour(
    gpu_count: float,
    *,
    quality_weight: float,
    quality_loss: float,
    slowdown: float,
    cost_seconds: float,
    lasts_seconds: float,
    rest_seconds: float,
) -> float:
    """GPU-hours that a lighter tier costs in an hour of the ``lasts_seconds`` that it is needed for.

    A share of quality lost weighs ``quality_weight`` times that share of speed. It is lost for the
    ``rest_seconds`` that the job goes on, whether it is needed or not; the move costs ``cost_seconds`` once.
    """
    lasts = max(lasts_seconds, 1.0)
    longer = max(1.0, rest_seconds / lasts)
    return gpu_count * ((quality_weight * quality_loss + slowdown) * longer + cost_seconds / lasts)


def batch_work_per_hour(gpu_count: float, slowdown: float) -> float:
    """GPU-hours that a smaller micro-batch costs in an hour, by what the job itself was seen to lose."""
    return gpu_count * slowdown


def hold_price(policy: Policy, weights: JobWeights, job: Job, needed_watts: float) -> Price:
    """The price of letting a job wait that would add ``needed_watts``: work is late, none of it is lost."""
    gpus = job.gpu_count * job.task_count
    late = 1000.0 * gpus * weights.work(job) / max(needed_watts, 1.0)
    return Price(late * policy.delay_price_per_gpu_hour * weights.debt_factor(job))


def discharge_price(
    ess: Ess, reading: EssReading, policy: Policy, energy_price_per_kwh: float | None = None
) -> Price:
    """The price of a kWh out of a battery: wear, and the energy lost on the way in and out.

    It rises as the energy above the reserve falls below ``bridge_seconds`` at full power: what is left is
    then worth more for what comes next.
    """
    price = policy.energy_price_per_kwh if energy_price_per_kwh is None else energy_price_per_kwh
    lost = 1.0 / policy.ess_round_trip_ratio - 1.0
    usable_ratio = max(0.0, reading.soc_ratio - ess.reserve_soc_ratio)
    left_joules = joules_from_kwh(usable_ratio * reading.energy_rating_kwh * reading.soh_ratio)
    wanted_joules = reading.max_discharge_watts * ess.bridge_seconds
    scarcity = min(_DEAREST_FACTOR, max(1.0, wanted_joules / max(left_joules, 1.0)))
    return Price((policy.ess_wear_per_kwh + max(0.0, price) * lost) * scarcity)
