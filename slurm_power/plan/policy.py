"""The site's own weights and bounds for the planner: the ``[policy]`` table of site.toml."""

from dataclasses import dataclass
from enum import StrEnum

# No weight is 0: what costs nothing would be taken first and never given back.
_WEIGHTS = (0.01, 1000.0)
# From flex0 nothing may be taken for money, a pause least of all.
PAUSE_CLASSES = ("", "flex1", "flex2", "flex3")


class PeakJobs(StrEnum):
    """Whether flexible jobs help the batteries to hold the level of a billing period."""

    OFF = "off"
    """The batteries hold it alone."""
    SHADOW = "shadow"
    """It is worked out what jobs could do and what that would cost, and written down; none is touched."""
    ON = "on"
    """Caps and holds serve it, within their promises and as far as it is worth it."""


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
    ``event_margin_ratio``: share of an event's limit kept free; a quarter of it as room lets a lever go.
    ``event_baseline_seconds``: how much of the load before an event its baseline is the mean of.
    ``event_recover_seconds``: how long the limit rises after an event, at most a quarter of its length.
    ``ramp_up_watts_per_minute``: how fast the grid connection's load may rise; None: as fast as it likes.
    ``ramp_down_watts_per_minute``: how fast it may fall, in an event and by itself; None: at once.
    ``start_expected_seconds``: how long a started job may take to reach the draw expected of it.
    ``gpu_watts``: expected draw per GPU at the start of a job, by workload class.
    ``host_watts_per_gpu``: what a busy GPU adds at the host (fans, CPUs, memory), beside its own draw.
    ``massive_start_ratio``: a job whose start adds this share of what the site may draw is a massive start.
    ``start_ramp_watts_per_second``: how fast starting jobs may raise the site's draw; 0: as they like.
    ``prolog_wait_seconds``: the longest a start that no cap can hold back waits in its prolog for that ramp.
    ``pause_flex``: the lowest flex class whose running jobs may be paused, as "flex3"; "" for none.
    ``pause_least_seconds``: a paused job is not resumed for room before it has been stopped this long.
    ``pause_most_seconds``: the longest pause: what computes on many GPUs gives up on a silence of minutes.
    ``pause_rest_seconds``: how long a job runs after a pause before it may be paused again.
    ``pause_cost_seconds``: work that stopping and getting going again costs, in seconds of full speed.
    ``paused_gpu_watts``: what a GPU of a stopped process draws, its memory held.
    ``tier_moves``: whether those who consent are moved to lighter model tiers (docs/tier-moves.md).
    ``tier_move_lead_seconds``: how long before an event jobs are moved, so that it finds them moved.
    ``tier_move_least_seconds``: no move for what lasts shorter, or for a job with less of its time left.
    ``tier_move_cost_seconds``: time that saving, queueing and starting again cost, at full speed.
    ``tier_move_rest_seconds``: how long a job that was moved is left alone.
    ``tier_checkpoint_seconds``: how long a job may take to save itself for a move; then it is left as it is.
    ``tier_moves_at_once``: the most jobs that are on their way to another tier at a time.
    ``quality_weight``: how many times a share of quality lost weighs what the same share of speed does.
    ``service_start_seconds``: how long a tier of a service takes to serve, from its submission.
    ``service_dwell_seconds``: a service's tier is not changed again before it has been asked for this long.
    ``batch_dwell_seconds``: advice on a micro-batch is not taken back for room before this.
    ``peak_jobs``: whether jobs are capped and held for the month's peak (docs/ess.md): off, shadow, or on.
    ``relocate``: whether held jobs are kept off the nodes of full circuits, so that they start on others.
    ``relocate_dwell_seconds``: a job that has not started by then may start anywhere again, and stays so.
    ``control``: False is shadow mode: decide and record, touch nothing.

    What levers cost, in the site's own currency (docs/prices.md); only their proportions move a choice:
    ``value_per_gpu_hour``: what an hour of one GPU at full speed is worth to the site.
    ``delay_price_per_gpu_hour``: what it costs to let work for one GPU wait an hour longer.
    ``energy_price_per_kwh``: the price of energy where no tariff says one; a battery's losses cost it.
    ``ess_wear_per_kwh``: what a battery ages by each kWh discharged.
    ``ess_round_trip_ratio``: energy that comes out of a battery for each kWh that went in.
    ``flex0_weight`` to ``flex3_weight``: how much more, or less, than that work of a flex class is worth.
    ``account_weights``: the same for accounts, as ``ACCOUNT=WEIGHT``; others weigh 1.
    ``fairness_ratio``: how far the price of touching somebody rises who has lost much already (1: doubles).
    ``fairness_half_life_seconds``: after this time half of what somebody has lost is forgotten.
    ``max_user_share_ratio``: the most of what is shaved that one user carries while others still can.
    """

    margin_ratio: float = 0.02
    release_margin_ratio: float = 0.04
    cap_floor_ratio: float = 0.45
    cap_dwell_seconds: float = 8.0
    cap_settle_seconds: float = 2.5
    event_lead_seconds: float = 3.0
    event_margin_ratio: float = 0.01
    event_baseline_seconds: float = 900.0
    event_recover_seconds: float = 900.0
    ramp_up_watts_per_minute: float | None = None
    ramp_down_watts_per_minute: float | None = None
    recharge_share_ratio: float = 0.5
    training_gpu_watts: float = 650.0
    inference_gpu_watts: float = 450.0
    generation_gpu_watts: float = 300.0
    idle_gpu_watts: float = 75.0
    host_watts_per_gpu: float = 225.0
    start_expected_seconds: float = 20.0
    massive_start_ratio: float = 0.05
    start_ramp_watts_per_second: float = 0.0
    prolog_wait_seconds: float = 0.0
    pause_flex: str = ""
    pause_least_seconds: float = 120.0
    pause_most_seconds: float = 540.0
    pause_rest_seconds: float = 600.0
    pause_cost_seconds: float = 30.0
    paused_gpu_watts: float = 120.0
    tier_moves: bool = True
    tier_move_lead_seconds: float = 300.0
    tier_move_least_seconds: float = 600.0
    tier_move_cost_seconds: float = 120.0
    tier_move_rest_seconds: float = 3600.0
    tier_checkpoint_seconds: float = 120.0
    tier_moves_at_once: int = 4
    quality_weight: float = 5.0
    service_start_seconds: float = 180.0
    service_dwell_seconds: float = 600.0
    batch_dwell_seconds: float = 60.0
    value_per_gpu_hour: float = 2.0
    delay_price_per_gpu_hour: float = 0.25
    energy_price_per_kwh: float = 0.10
    ess_wear_per_kwh: float = 0.02
    ess_round_trip_ratio: float = 0.88
    flex0_weight: float = 4.0
    flex1_weight: float = 2.0
    flex2_weight: float = 1.0
    flex3_weight: float = 0.5
    account_weights: tuple[str, ...] = ()
    fairness_ratio: float = 1.0
    fairness_half_life_seconds: float = 604_800.0
    max_user_share_ratio: float = 0.5
    peak_jobs: PeakJobs = PeakJobs.SHADOW
    relocate: bool = True
    relocate_dwell_seconds: float = 600.0
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
            "event_margin_ratio": (0.0, 0.5),
            "event_baseline_seconds": (60.0, 86_400.0),
            "event_recover_seconds": (0.0, 86_400.0),
            "ramp_up_watts_per_minute": (1.0, 1e12),
            "ramp_down_watts_per_minute": (1.0, 1e12),
            "recharge_share_ratio": (0.0, 1.0),
            "training_gpu_watts": (0.0, 5000.0),
            "inference_gpu_watts": (0.0, 5000.0),
            "generation_gpu_watts": (0.0, 5000.0),
            "idle_gpu_watts": (0.0, 1000.0),
            "host_watts_per_gpu": (0.0, 2000.0),
            "start_expected_seconds": (0.0, 600.0),
            "massive_start_ratio": (0.001, 1.0),
            "start_ramp_watts_per_second": (0.0, 1e9),
            "prolog_wait_seconds": (0.0, 60.0),
            "pause_least_seconds": (5.0, 86_400.0),
            "pause_most_seconds": (5.0, 86_400.0),
            "pause_rest_seconds": (5.0, 86_400.0),
            "pause_cost_seconds": (0.0, 86_400.0),
            "paused_gpu_watts": (0.0, 1000.0),
            "tier_move_lead_seconds": (0.0, 86_400.0),
            "tier_move_least_seconds": (10.0, 86_400.0),
            "tier_move_cost_seconds": (0.0, 86_400.0),
            "tier_move_rest_seconds": (30.0, 604_800.0),
            "tier_checkpoint_seconds": (1.0, 3600.0),
            "tier_moves_at_once": (1.0, 1000.0),
            "quality_weight": (0.0, 1000.0),
            "service_start_seconds": (1.0, 3600.0),
            "service_dwell_seconds": (10.0, 86_400.0),
            "batch_dwell_seconds": (5.0, 86_400.0),
            "value_per_gpu_hour": (0.0, 10_000.0),
            "delay_price_per_gpu_hour": (0.0, 10_000.0),
            "energy_price_per_kwh": (-10.0, 100.0),
            "ess_wear_per_kwh": (0.0, 100.0),
            "ess_round_trip_ratio": (0.3, 1.0),
            "flex0_weight": _WEIGHTS,
            "flex1_weight": _WEIGHTS,
            "flex2_weight": _WEIGHTS,
            "flex3_weight": _WEIGHTS,
            "fairness_ratio": (0.0, 10.0),
            "fairness_half_life_seconds": (60.0, 31_536_000.0),
            "max_user_share_ratio": (0.01, 1.0),
            "relocate_dwell_seconds": (30.0, 86_400.0),
        }
        found = []
        for key, (low, high) in bounds.items():
            value = getattr(self, key)
            if value is not None and not low <= value <= high:
                found.append(f"{key}: {value:g} is not between {low:g} and {high:g}")
        if self.pause_flex not in PAUSE_CLASSES:
            classes = ", ".join(PAUSE_CLASSES[1:])
            found.append(f'pause_flex: {self.pause_flex!r} is none of {classes}, or "" for no pauses')
        if self.pause_most_seconds < self.pause_least_seconds:
            found.append(
                f"pause_most_seconds: {self.pause_most_seconds:g} is below pause_least_seconds"
                f" ({self.pause_least_seconds:g})"
            )
        return [*found, *self._account_problems()]

    def weights_of_accounts(self) -> dict[str, float]:
        """``account_weights`` as weight by account; call it only where ``problems`` found none."""
        return {
            account: float(weight)
            for account, _, weight in (entry.rpartition("=") for entry in self.account_weights)
        }

    def _account_problems(self) -> list[str]:
        found = []
        seen: set[str] = set()
        for entry in self.account_weights:
            account, _, weight = entry.rpartition("=")
            if not account:
                found.append(f'account_weights: {entry!r} names no account; write "physics=2"')
                continue
            if account in seen:
                found.append(f"account_weights: {account} stands there twice")
            seen.add(account)
            try:
                value = float(weight)
            except ValueError:
                value = float("nan")
            low, high = _WEIGHTS
            if not low <= value <= high:
                found.append(f"account_weights: {entry!r} gives no weight between {low:g} and {high:g}")
        return found
