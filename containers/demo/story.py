"""What happens in the demo, and when: the jobs users submit. Faults and grid events are in scenario.toml."""

from dataclasses import dataclass

GRID_LIMIT_WATTS = 32_000
# Somebody at the site runs this GPU below its default; it must read so again in the end.
ADMIN_CAPPED_GPU = "gpu.c1.0"
ADMIN_CAP_WATTS = 650.0
# So much charge that the battery can bridge the jump, but not carry it: job levers have to take over.
BATTERY_SOC_RATIO = 0.20


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """One job: who submits it when, and the arguments of psbatch."""

    at_seconds: float
    user: str
    name: str
    nodes: int
    workload: str
    flex: str
    seconds: int
    story: str
    begin_in_seconds: int | None = None

    def arguments(self) -> list[str]:
        """The command line a user would type."""
        load = f"plant-load --workload {self.workload} --seconds {self.seconds} --name {self.name}"
        return [
            "psbatch",
            "--parsable",
            f"--workload={self.workload}",
            f"--flex={self.flex}",
            f"--job-name={self.name}",
            f"--nodes={self.nodes}",
            "--ntasks-per-node=1",
            "--gres=gpu:8",
            "--time=10",
            f"--output={self.name}-%j.out",
            *([] if self.begin_in_seconds is None else [f"--begin=now+{self.begin_in_seconds}"]),
            f"--wrap=srun {load}",
        ]


SUBMISSIONS = (
    Submission(
        at_seconds=0.0,
        user="alice",
        name="pretrain",
        nodes=2,
        workload="training",
        flex="flex2",
        seconds=50,
        story="a training on half of the site",
    ),
    Submission(
        at_seconds=2.0,
        user="bob",
        name="chatbot",
        nodes=1,
        workload="inference",
        flex="flex0",
        seconds=58,
        story="an inference service that must not be touched",
    ),
    Submission(
        at_seconds=3.0,
        user="alice",
        name="urgent",
        nodes=1,
        workload="training",
        flex="flex0",
        seconds=40,
        begin_in_seconds=14,
        story="an urgent job, to start in 14 s, that nothing may delay: the site will jump above its limit",
    ),
    Submission(
        at_seconds=20.0,
        user="bob",
        name="sweep",
        nodes=2,
        workload="training",
        flex="flex3",
        seconds=14,
        story="a large late job: two nodes, and no room for it yet",
    ),
)
