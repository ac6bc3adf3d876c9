"""The ``[forecast]`` table: how finely and how far loads are forecast, and by whom."""

from dataclasses import dataclass

QUARTER_SECONDS = 900.0
_STEPS = (5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 100.0, 150.0, 180.0, 300.0)
_MOST_NEAR_SECONDS = 7200.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ForecastConfig:
    """How loads are forecast; ``fitted_circuits``: how many of the largest circuits get a fitted model."""

    enabled: bool = True
    near_step_seconds: float = 60.0
    near_horizon_seconds: float = 3600.0
    far_horizon_hours: float = 48.0
    fitted_circuits: int = 3

    def problems(self) -> list[str]:
        """What is wrong, each problem with its key."""
        found = []
        step = self.near_step_seconds
        if step not in _STEPS:
            words = ", ".join(f"{each:g}" for each in _STEPS)
            found.append(f"near_step_seconds: {step:g} is not one of {words}")
        elif not step <= self.near_horizon_seconds <= _MOST_NEAR_SECONDS:
            found.append(
                f"near_horizon_seconds: {self.near_horizon_seconds:g} is not between a step, {step:g},"
                f" and {_MOST_NEAR_SECONDS:g}"
            )
        elif self.near_horizon_seconds % step:
            found.append(f"near_horizon_seconds: {self.near_horizon_seconds:g} is no multiple of {step:g}")
        if not 1.0 <= self.far_horizon_hours <= 48.0 or self.far_horizon_hours * 4 % 1:
            found.append(
                f"far_horizon_hours: {self.far_horizon_hours:g} is not 1 to 48 in quarters of an hour"
            )
        if not 0 <= self.fitted_circuits <= 20:
            found.append(f"fitted_circuits: {self.fitted_circuits} is not between 0 and 20")
        return found
