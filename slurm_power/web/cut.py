"""What of the picture of a site somebody sees: everything, or totals with the jobs of their own."""

from collections.abc import Iterable, Mapping
from typing import Any

from slurm_power.web.problems import without_folders

Picture = Mapping[str, Any]

# What everybody may see. Whatever is new in the picture is hidden until it stands here: it may name somebody.
SHOWN = frozenset(
    (
        *("at", "site", "version", "mode", "paused_until", "uptime_seconds", "standing", "weights"),
        *("circuits", "circuits_left_off", "ess", "events", "shortfalls", "levers", "forecast"),
        *("job_counts", "sources", "leases"),
    )
)
# What tells of single jobs, of services or of people is put in anew by what the caller may see.
# Alerts are for whom they are sent to, and for auditors: they may name what of whose is not as it should be.
HIDDEN = frozenset(("ok", "jobs", "jobs_left_off", "services", "starts", "fairness", "policy", "alerts"))


def whole(live: Picture) -> dict[str, Any]:
    """All of it, for auditors and operators."""
    return {key: value for key, value in live.items() if key != "ok"}


def totals(live: Picture) -> dict[str, Any]:
    """What everybody may see: no job, no service and nobody's name, and not where files lie."""
    seen = {key: value for key, value in live.items() if key in SHOWN}
    if "circuits" in seen:
        seen["circuits"] = reasons(seen["circuits"])
    for key, rows in (("sources", "bad"), ("standing", "risks")):
        if key in seen:
            seen[key] = {**seen[key], rows: reasons(seen[key].get(rows, []))}
    if "policy" in live:
        seen["policy"] = {**(live["policy"] or {}), "author": None}
    return seen


def reasons(rows: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Rows whose reasons name files, as in a fault, without where they lie."""
    return [{**row, "reason": without_folders(str(row.get("reason") or ""))} for row in rows]


def own(live: Picture, name: str) -> dict[str, Any]:
    """What is added to the totals for one user: their own jobs, and the others summed up."""
    jobs = [job for job in live["jobs"] if job.get("user") == name]
    fairness = live["fairness"]
    worst = fairness.get("worst_user")
    return {
        "jobs": jobs,
        "jobs_left_off": 0,
        "others": others(live["job_counts"], jobs),
        "services": [service for service in live["services"] if service.get("user") == name],
        "starts": [start(one, name) for one in live["starts"]],
        "fairness": {**fairness, "worst_user": worst if worst == name else None},
    }


def others(counts: Mapping[str, Any], mine: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """What all jobs are and draw but for ``mine``; never below 0."""
    sums = {"running": 0.0, "gpu_count": 0.0, "watts": 0.0, "capped": 0.0, "held": 0.0}
    for job in mine:
        on_nodes = job.get("state") in ("starting", "running", "suspended")
        sums["running"] += on_nodes
        sums["gpu_count"] += (job.get("gpu_count") or 0) * on_nodes
        sums["watts"] += job.get("gpu_watts") or 0.0
        sums["capped"] += job.get("cap_watts") is not None
        sums["held"] += job.get("hold_ends_in_seconds") is not None
    left = {key: max(0.0, (counts.get(key) or 0) - value) for key, value in sums.items()}
    return {key: round(value, 1) if key == "watts" else int(value) for key, value in left.items()}


def start(one: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A coming start as a user sees it: somebody else's without names."""
    return dict(one) if one.get("user") == name else {**one, "job_id": "", "user": "", "name": ""}


def plan(mine: Mapping[str, Any], prices: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A user's own plan with everybody's prices: levers of others' jobs without names."""
    circuits = [
        {
            **circuit,
            "marginal": _lever(circuit["marginal"], name),
            "next": _lever(circuit["next"], name),
            "levers": [_lever(lever, name) for lever in circuit["levers"]],
        }
        for circuit in prices.get("circuits", [])
    ]
    more = {key: prices[key] for key in ("energy_price_per_kwh", "circuits_left_off") if key in prices}
    return {**mine, **more, "circuits": circuits}


def _lever(row: Mapping[str, Any] | None, name: str) -> dict[str, Any] | None:
    """A lever without whose it is; those of no job, such as batteries, keep their name."""
    if row is None or row.get("user") in (None, name):
        return None if row is None else dict(row)
    return {**row, "subject": None, "user": None}
