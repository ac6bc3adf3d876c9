"""Good messages for every door, which fuzz spoils, and the site that takes them."""

from typing import Any

GPU = {
    "uuid": "GPU-a", "slot": 0, "name": "H100", "power_watts": 500.0, "energy_joules": 1e6,
    "utilization_ratio": 1.0, "sm_clock_hertz": 1.7e9, "temperature_celsius": 60.0,
    "requested_cap_watts": 700.0, "enforced_cap_watts": 700.0, "default_cap_watts": 700.0,
    "min_cap_watts": 200.0, "max_cap_watts": 700.0, "error": "",
}  # fmt: skip
JOB = {
    "job_id": "17",
    "user": "alice",
    "uid": 20001,
    "gpus": ["GPU-a"],
    "workload": "training",
    "flex": "flex2",
}
WISHES = {
    "max_hold_seconds": 1800,
    "finish_by": 1_800_000_000,
    "own_cap_watts": 400,
    "tier": "digits/full",
    "tiers_ok": ["int8"],
    "min_quality": 0.95,
    "told_tier": "digits/int8",
    "restart_count": 1,
}
LEASE = {"lease_id": "17@GPU-a", "uuid": "GPU-a", "cap_watts": 400.0, "ttl_seconds": 10.0, "kind": "economic"}
PROGRESS = {
    "step": 1200, "samples_per_second": 812.5, "global_batch": 256, "micro_batch": 64,
    "max_micro_batch": 64, "checkpoints": True, "checkpoint_step": 1000, "age_seconds": 1.0,
}  # fmt: skip
FROM_NODE: tuple[dict[str, Any], ...] = (
    {"type": "telemetry", "gpus": [GPU, GPU], "leases": [{**LEASE, "state": "verified"}], "drift_count": 0,
     "jobs": [{**JOB, "energy_joules": 5.0}], "progress": {"17": PROGRESS}},
    {"type": "job_start", **JOB, **WISHES},
    {"type": "job_end", "job_id": "17", "energy_joules": {"GPU-a": 5.0}},
    {"type": "lease_event", "event": "drifted", "lease_id": "L", "uuid": "GPU-a", "job_id": "17",
     "lever": "power_cap", "cap_watts": 400.0, "requested_watts": 700.0, "enforced_watts": 700.0,
     "detail": "x"},
    {"type": "stranger", "uuid": "GPU-a", "job_id": "17", "detail": "pid 7"},
    {"type": "hello", "version": 2},
    {"type": "enrol", "version": 2, "request": "PEM", "credential": "MUNGE:x"},
)  # fmt: skip
FROM_CONTROLLER: tuple[dict[str, Any], ...] = (
    {"type": "grant", "leases": [{**LEASE, "job_id": "17", "reason": "peak"}]},
    {"type": "grant", "leases": [{"lease_id": "L", "uuid": "GPU-a", "lock_hertz": 9e8, "ttl_seconds": 5.0,
                                  "kind": "economic"}]},
    {"type": "release", "lease_ids": ["17@GPU-a"]},
    {"type": "yield", "seconds": 60.0},
    {"type": "tier", "job_id": "17", "tier": "digits/int8", "model": "/models/int8", "restart_count": 1},
    {"type": "advice", "job_id": "17", "micro_batch": 64, "action": "pause", "reason": "x",
     "ttl_seconds": 30.0, "restart_count": 0},
    {"type": "sampling", "sample_seconds": 0.1, "for_seconds": 60.0},
    {"type": "rack", "circuit": "rack1", "watts": 3000.0, "quality": "good", "age_seconds": 1.0,
     "share_ratio": 0.5},
)  # fmt: skip
FROM_HOOKS: tuple[dict[str, Any], ...] = (
    {"op": "prolog", **JOB, **WISHES, "tiers_ok": "int8", "gpu_slots": [0], "restart_count": 0},
    {"op": "epilog", "job_id": "17"},
    {"op": "environment", "job_id": "17"},
    {"op": "progress", "job_id": "17", "rank": 0, **PROGRESS},
    {"op": "status"},
)
FROM_USERS: tuple[dict[str, Any], ...] = (
    {"op": "status"},
    {"op": "sources"},
    {"op": "ledger", "since_seconds": 600, "job_id": "17", "after_sequence": 0},
    {
        "op": "event",
        "circuit": "grid",
        "limit_watts": 9000,
        "start_in_seconds": 3,
        "duration_seconds": 6,
        "reason": "x",
    },
    {
        "op": "event",
        "circuit": "grid",
        "cut_ratio": 0.25,
        "ramp_seconds": 2,
        "recover_seconds": 2,
        "duration_seconds": 6,
        "commitment": "best-effort",
        "baseline": "start",
        "reason": "x",
    },
    {"op": "cancel_event", "event_id": "ev-3", "recover": True},
    {"op": "job_hint", "job_id": "17", "event": "start"},
    {"op": "events"},
    {"op": "event_report", "event_id": "ev-3"},
    {"op": "yield", "node": "c1", "seconds": 60, "reason": "x"},
    {"op": "forget_node", "node": "c1"},
    {"op": "control", "enabled": True, "reason": "x"},
    {"op": "control", "enabled": False, "for_seconds": 1, "reason": "x"},
    {"op": "release_all", "reason": "x", "safety_too": True},
    {"op": "weights"},
    {"op": "weights", "weights": {"flex2_weight": 3, "account_weights": ["physics=2"]}, "reason": "x"},
    {"op": "policy"},
    {"op": "policy_sign", "reason": "x"},
    {"op": "appeal", "job_id": "17", "text": "x"},
    {"op": "appeal_answer", "appeal_id": "ap-1", "text": "x"},
    {"op": "appeals"},
    {
        "op": "service",
        "name": "ask",
        "family": "digits",
        "full_tier": "full",
        "tiers_ok": ["int8"],
        "min_quality": 0.9,
        "account": "lab",
        "serving": "full",
        "requests_per_second": 12.5,
        "backends": [{"tier": "full", "state": "serving", "job_id": "17", "open_streams": 3}],
    },
    {"op": "advise", "job_id": "17", "micro_batch": 32, "action": "pause", "seconds": 600, "reason": "x"},
    {"op": "advise", "job_id": "17", "clear": True},
    {"op": "lineage", "job_id": "17"},
)
SITE = """
[site]
name = "fuzz"
[controller]
listen = "127.0.0.1:1"
socket = "{folder}/ctl.sock"
tiers_path = "{folder}/tiers.toml"
state_directory = "{folder}"
tls_directory = "{folder}/tls"
[circuit.grid]
rating_watts = 60_000
limit_watts = 30_000
limit_kind = "economic"
nodes = ["c1", "c2"]
"""
TIERS = """
[family.digits]
task = "image-classification"
class = "inference"
metric = "accuracy"
[[family.digits.tier]]
name = "full"
method = "none"
gpus = 2
watts_per_gpu = 400.0
power_source = "nvml"
quality = { value = 0.98 }
approved = { by = "mlops", date = 2026-01-02 }
[[family.digits.tier]]
name = "int8"
method = "int8"
parent = "full"
gpus = 1
watts_per_gpu = 300.0
power_source = "nvml"
quality = { value = 0.97 }
approved = { by = "mlops", date = 2026-01-02 }
"""
