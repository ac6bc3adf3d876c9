"""An answer of powerctld about forecasts, made up: a quiet site and a massive start in 14 minutes."""

import math
from datetime import UTC, datetime, timedelta
from typing import Any

AT = datetime(2026, 1, 2, 14, 0, 12, tzinfo=UTC)
ISSUED_SECONDS = AT.timestamp() - 12.0
START_IN_SECONDS = 13 * 60 + 48.0
STEP_WATTS = 9_200.0


def made(reach: str, step_seconds: float, watts: list[float], **changes: object) -> dict[str, Any]:
    """One forecast; its band widens."""
    return {
        "circuit": "grid",
        "reach": reach,
        "issued_seconds": ISSUED_SECONDS,
        "step_seconds": step_seconds,
        "p10_watts": [value - 300.0 - 40.0 * step for step, value in enumerate(watts)],
        "p50_watts": watts,
        "p90_watts": [value + 300.0 + 40.0 * step for step, value in enumerate(watts)],
        "source": "blend",
        "reason": "",
        "history_days": 34.2,
        "drivers": {
            "persistence": [0.6, 0.1],
            "day_naive": [0.25, 0.3],
            "ew_ar": [0.13, 0.58],
            "rest": [0.02, 0.02],
        },
        "score": {
            "forecasts": 96,
            "mae_watts": 410.0,
            "best_naive": "persistence",
            "best_naive_mae_watts": 500.0,
            "coverage_ratio": 0.81,
            "bias_watts": 50.0,
        },
        **changes,
    }


def start(**changes: object) -> dict[str, Any]:
    """A massive start that is planned."""
    return {
        "job_id": "17",
        "user": "alice",
        "name": "llama-pretrain",
        "gpu_count": 64,
        "step_watts": {"grid": STEP_WATTS, "rack1": 8_000.0},
        "earliest": (AT + timedelta(seconds=START_IN_SECONDS)).isoformat(),
        "lead_seconds": START_IN_SECONDS,
        "known_from": "Slurm's plan",
        "placed": True,
        "massive": True,
        **changes,
    }


def history(step_seconds: float, watts: list[float | None]) -> dict[str, Any]:
    """What was drawn until the forecast was issued."""
    return {"end_seconds": ISSUED_SECONDS, "step_seconds": step_seconds, "watts": watts}


def answer(**changes: object) -> dict[str, Any]:
    """The whole answer."""
    near = [22_000.0 + 400.0 * math.sin(i / 6) + (STEP_WATTS if i >= 14 else 0.0) for i in range(60)]
    far = [24_000.0 + 4_000.0 * math.sin(math.tau * (i - 20) / 96) for i in range(192)]
    return {
        "ok": True,
        "at": AT.isoformat(),
        "site": "lab",
        "circuit": "grid",
        "circuits": ["grid", "rack1"],
        "limit_watts": 32_000.0,
        "label": "standard load",
        "forecasts": {"near": made("near", 60.0, near), "far": made("far", 900.0, far)},
        "history": {
            "near": history(60.0, [21_800.0 + 300.0 * math.sin(i / 4) for i in range(120)]),
            "far": history(
                900.0, [24_000.0 + 4_000.0 * math.sin(math.tau * (i + 76) / 96) for i in range(96)]
            ),
        },
        "supply": {
            "far": {
                "limit_watts": [32_000.0] * 100 + [27_000.0] * 92,
                "price_per_kwh": [0.056] * 40 + [0.267] * 40 + [None] * 112,
                "demand_price_per_kw": None,
                "carbon_g_per_kwh": [210.0] * 192,
            }
        },
        "starts": [start()],
        "worker": {"state": "running", "reason": "", "age_seconds": 0.4, "process_id": 4711, "words": {}},
        **changes,
    }
