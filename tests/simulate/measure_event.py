"""How near cuts come to the bound on mixes nobody tuned for; run as a module with a file of curves.

Three noisy copies of each curve, 200 mixes of 4 to 12 jobs for each noise and battery: 25 % for 3 h.
"""

import random
import statistics
import sys
from pathlib import Path

from slurm_power.model.job import Flex
from slurm_power.plan.response import CapCurve
from slurm_power.simulate.event import EventSpec, simulate_event
from slurm_power.simulate.event_files import MixJob, read_curves
from slurm_power.simulate.event_result import summary

_CUT_RATIO, _MINUTES, _MIXES = 0.25, 180, 200


def noisy(chance: random.Random, curve: CapCurve, noise_ratio: float) -> CapCurve:
    """The curve with normal noise on both watts and performance, the highest cap again at 1."""
    watts = [value * (1.0 + chance.gauss(0.0, noise_ratio)) for value in curve.gpu_watts]
    performance = [value * (1.0 + chance.gauss(0.0, noise_ratio)) for value in curve.performance_ratios]
    return CapCurve(
        caps_watts=curve.caps_watts,
        gpu_watts=tuple(watts),
        performance_ratios=tuple(value / performance[-1] for value in performance),
    )


def measure(curves: dict[str, CapCurve], noise_ratio: float, ess_hours: float) -> str:
    """One line: how many could be met, the gaps to the bound in points, how many took turns."""
    gaps, over, above, turns = [], [0.0], [0.0], 0
    for seed in range(_MIXES):
        chance = random.Random(seed)
        drawn = {
            f"{name}{copy}": noisy(chance, curve, noise_ratio)
            for copy in range(3)
            for name, curve in curves.items()
        }
        jobs = [
            MixJob(
                name=str(number),
                workload=chance.choice(list(drawn)),
                gpus=chance.choice((8, 16, 24, 32, 48, 64)),
                flex=chance.choice(list(Flex)),
                priority=chance.choice((0.5, 1.0, 2.0, 4.0)),
            )
            for number in range(chance.choice((4, 6, 8, 12)))
        ]
        cut_watts = _CUT_RATIO * sum(drawn[job.workload].uncapped_watts * job.gpus for job in jobs)
        spec = EventSpec(
            cut_ratio=_CUT_RATIO,
            minutes=_MINUTES,
            ess_watts=cut_watts if ess_hours else 0.0,
            ess_watt_hours=cut_watts * ess_hours,
        )
        found = summary(simulate_event(jobs, drawn, spec))
        if found["feasible"]:
            gaps.append(100.0 * (found["bound_weighted_performance"] - found["weighted_performance"]))
            over.append(100.0 * found["over_curtailment_ratio"])
            above.append(100.0 * found["worst_above_target_ratio"])
            turns += bool(found["alternating_jobs"])
    gaps.sort()
    return (
        f"noise {noise_ratio:.0%}, battery {ess_hours:g} h: {len(gaps)} of {_MIXES} feasible;"
        f" gap median {statistics.median(gaps):.2f}, p90 {gaps[int(0.9 * len(gaps))]:.2f},"
        f" worst {gaps[-1]:.2f}; over-curtailed at most {max(over):.2f};"
        f" above target at most {max(above):.2f} %; {turns} take turns"
    )


if __name__ == "__main__":
    path = Path(sys.argv[1])
    measured = read_curves(path.read_text().splitlines(), str(path))
    for noise in (0.0, 0.01, 0.03):
        for hours in (0.0, 1.0, 2.0):
            print(measure(measured, noise, hours))
