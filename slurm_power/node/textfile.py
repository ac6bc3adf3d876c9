"""Metrics of this node in Prometheus's text format, in a file for the node exporter's textfile collector."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from slurm_power.model.energy import GpuEnergy
from slurm_power.model.reading import GpuReading, HostReading

Sample = tuple[Mapping[str, str], float | None]


def metrics_text(
    node: str,
    readings: Iterable[GpuReading],
    energies: Mapping[str, GpuEnergy],
    host: HostReading | None,
) -> str:
    """All metrics. Totals grow, except that they start anew with powerd; what is unknown is left out."""
    gpus = [({"node": node, "gpu": str(gpu.slot), "uuid": gpu.uuid}, gpu) for gpu in readings]
    alive = [(labels, gpu) for labels, gpu in gpus if not gpu.error]
    families = [
        _family(
            "gpu_up", "gauge", "1 if the GPU answers", ((labels, float(not g.error)) for labels, g in gpus)
        ),
        _family("gpu_watts", "gauge", "power draw", ((labels, g.power_watts) for labels, g in alive)),
        _family(
            "gpu_joules_total",
            "counter",
            "energy used",
            ((labels, energies[g.uuid].booked_joules) for labels, g in gpus if g.uuid in energies),
        ),
        _family(
            "gpu_enforced_cap_watts",
            "gauge",
            "power limit in force",
            ((labels, g.enforced_cap_watts) for labels, g in alive),
        ),
        _family(
            "gpu_utilization_ratio",
            "gauge",
            "share of the time with work",
            ((labels, g.utilization_ratio) for labels, g in alive),
        ),
        _family("gpu_sm_clock_hertz", "gauge", "clock", ((labels, g.sm_clock_hertz) for labels, g in alive)),
        _family(
            "gpu_temperature_celsius",
            "gauge",
            "temperature",
            ((labels, g.temperature_celsius) for labels, g in alive),
        ),
        _family(
            "gpu_throttled_seconds_total",
            "counter",
            "time for which a reason has held the GPU back, since the driver was loaded",
            (
                ({**labels, "reason": reason}, seconds)
                for labels, g in alive
                for reason, seconds in (g.throttle_seconds or {}).items()
            ),
        ),
    ]
    if host is not None:
        labels = {"node": node, "source": host.source}
        families += [
            _family("host_watts", "gauge", "power of the host", [(labels, host.watts)]),
            _family("host_joules_total", "counter", "energy of the host", [(labels, host.energy_joules)]),
            _family(
                "host_cpu_utilization_ratio",
                "gauge",
                "share of CPU time in use",
                [({"node": node}, host.cpu_utilization_ratio)],
            ),
        ]
    return "".join(families)


def _family(name: str, kind: str, meaning: str, samples: Iterable[Sample]) -> str:
    """One metric with its samples; nothing at all without a sample."""
    lines = [
        f"slurm_power_{name}{{{_labels(labels)}}} {value!r}\n"
        for labels, value in samples
        if value is not None
    ]
    if not lines:
        return ""
    return f"# HELP slurm_power_{name} {meaning}\n# TYPE slurm_power_{name} {kind}\n" + "".join(lines)


def _labels(labels: Mapping[str, str]) -> str:
    escaped = {
        name: text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        for name, text in labels.items()
    }
    return ",".join(f'{name}="{text}"' for name, text in escaped.items())


def write_metrics(file: Path, text: str) -> None:
    """Replace the file in one step, readable by all, not synced; raises OSError."""
    draft = file.with_name(f".{file.name}.new")
    try:
        draft.write_text(text)
        draft.chmod(0o644)
        draft.replace(file)
    except OSError:
        with suppress(OSError):
            draft.unlink()
        raise
