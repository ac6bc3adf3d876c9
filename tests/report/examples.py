"""A small site's afternoon, made up: a step over the limit, shaved by battery and caps, then given back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from slurm_power.report.data import Decision, EventSpan, JobSummary, ReportData, Series, judge

STARTED = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
LIMIT_WATTS = 20_000.0


def series() -> Series:
    """Four minutes at 1 s: 12 kW, a step to 24 kW at 60 s shaved to 19.8 kW within 3 s, over at 180 s."""
    seconds = tuple(float(second) for second in range(240))
    wanted = [24_000.0 if 60 <= second < 180 else 12_000.0 for second in seconds]
    ess = [min(4_200.0, 1_400.0 * (second - 59)) if 60 <= second < 110 else 0.0 for second in seconds]
    caps = [4_200.0 if 110 <= second < 180 else 0.0 for second in seconds]
    return Series(
        seconds=seconds,
        import_watts=tuple(w - e - c for w, e, c in zip(wanted, ess, caps, strict=True)),
        limit_watts=(LIMIT_WATTS,) * 240,
        ess_discharge_watts=tuple(ess),
        withheld_watts=tuple(caps),
        soc_ratio=tuple(0.8 - 0.002 * min(max(second - 60, 0), 50) for second in seconds),
    )


def job(job_id: str, **changes: object) -> JobSummary:
    """A finished job."""
    made = JobSummary(
        job_id=job_id,
        user="alice",
        name="train",
        state="ended",
        workload="training",
        flex="flex2",
        gpu_count=8,
        energy_joules=1.2e6,
        mean_watts=4_100.0,
        peak_watts=5_600.0,
        lowest_cap_watts=520.0,
        slowdown_ratio=0.061,
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # fields given by name


def report(**changes: object) -> ReportData:
    """The whole afternoon."""
    rows = series()
    jobs = (
        job("17"),
        job(
            "18",
            user="bob",
            name="serve",
            workload="inference",
            flex="flex0",
            lowest_cap_watts=None,
            slowdown_ratio=0.0,
        ),
        job("19", name="late", gpu_count=16, held_seconds=42.0),
    )

    def decided(second: float, kind: str, subject: str, reason: str, watts: float | None = None) -> Decision:
        at = STARTED + timedelta(seconds=second)
        return Decision(at=at, actor="guard", kind=kind, subject=subject, reason=reason, saved_watts=watts)

    made = ReportData(
        title="Power report of the lab",
        circuit="grid",
        started=STARTED,
        series=rows,
        jobs=jobs,
        decisions=(
            decided(60, "discharge", "ess:battery", "grid is at 22.6 kW of 20.0 kW", 4_200.0),
            decided(61, "hold", "job:19", "it would need 9.0 kW, 0.2 kW are free", 9_000.0),
            decided(110, "cap", "job:17", "the battery is for short peaks; flex2 allows 25 %", 4_200.0),
            decided(181, "uncap", "job:17", "8.0 kW are free again"),
            decided(182, "release", "job:19", "8.0 kW are free again"),
        ),
        events=(
            EventSpan(
                circuit="grid", limit_watts=LIMIT_WATTS, start_seconds=90, end_seconds=150, reason="utility"
            ),
        ),
        verdict=judge(rows),
    )
    return replace(made, **changes)  # type: ignore[arg-type]  # fields given by name
