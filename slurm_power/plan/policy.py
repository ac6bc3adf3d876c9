"""The site's own weights and bounds for the planner: the ``[policy]`` table of site.toml."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """How hard the planner holds on, and what it expects of jobs it knows nothing about.

    ``margin_ratio``: share of each limit kept free, so that noise does not pass it.
    ``release_margin_ratio``: room, as a share of the limit, that must be free before a lever is let go.
    ``cap_floor_ratio``: no cap below this share of the GPU's default limit (throughput falls off a cliff).
    ``cap_dwell_seconds``: a cap is not raised before it has stood this long.
    ``cap_settle_seconds``: how long a new cap gets to show at the meter before more is taken.
    ``recharge_share_ratio``: share of the free room a battery may charge with.
    ``event_lead_seconds``: how long before an event its limit is steered to.
    ``start_expected_seconds``: how long a started job may take to reach the draw expected of it.
    ``gpu_watts``: expected draw per GPU at the start of a job, by workload class.
    ``host_watts_per_gpu``: what a busy GPU adds at the host (fans, CPUs, memory), beside its own draw.
    ``massive_start_ratio``: a job whose start adds this share of what the site may draw is a massive start.
    ``start_ramp_watts_per_second``: how fast starting jobs may raise the site's draw; 0: as they like.
    ``control``: False is shadow mode: decide and record, touch nothing.
    """

    margin_ratio: float = 0.02
    release_margin_ratio: float = 0.04
    cap_floor_ratio: float = 0.45
    cap_dwell_seconds: float = 8.0
    cap_settle_seconds: float = 2.5
    event_lead_seconds: float = 3.0
    recharge_share_ratio: float = 0.5
    training_gpu_watts: float = 650.0
    inference_gpu_watts: float = 450.0
    generation_gpu_watts: float = 300.0
    idle_gpu_watts: float = 75.0
    host_watts_per_gpu: float = 225.0
    start_expected_seconds: float = 20.0
    massive_start_ratio: float = 0.05
    start_ramp_watts_per_second: float = 0.0
    control: bool = True

    def problems(self) -> list[str]:
        """Every value outside its bounds, as ``key: why``."""
        bounds = {
            "margin_ratio": (0.0, 0.5),
            "release_margin_ratio": (0.0, 0.5),
            "cap_floor_ratio": (0.1, 1.0),
            "cap_dwell_seconds": (0.0, 3600.0),
            "cap_settle_seconds": (0.0, 60.0),
            "event_lead_seconds": (0.0, 3600.0),
            "recharge_share_ratio": (0.0, 1.0),
            "training_gpu_watts": (0.0, 5000.0),
            "inference_gpu_watts": (0.0, 5000.0),
            "generation_gpu_watts": (0.0, 5000.0),
            "idle_gpu_watts": (0.0, 1000.0),
            "host_watts_per_gpu": (0.0, 2000.0),
            "start_expected_seconds": (0.0, 600.0),
            "massive_start_ratio": (0.001, 1.0),
            "start_ramp_watts_per_second": (0.0, 1e9),
        }
        found = []
        for key, (low, high) in bounds.items():
            value = getattr(self, key)
            if not low <= value <= high:
                found.append(f"{key}: {value:g} is not between {low:g} and {high:g}")
        return found
