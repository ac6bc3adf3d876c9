"""The textfile of a node, as a stranger's parser reads it."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from containers.faults.node import NodeBench, wait_until
from slurm_power.model.energy import GpuEnergy
from slurm_power.model.reading import HostReading
from slurm_power.node.textfile import metrics_text, write_metrics
from tests.plan.situations import gpu

LINE = re.compile(r'^([a-z_]+)\{((?:[a-z]+="(?:[^"\\]|\\.)*",?)*)\} (\S+)$')


def parsed(text: str) -> dict[tuple[str, str], float]:
    """Values by name and labels, checked against the text format line by line."""
    found: dict[tuple[str, str], float] = {}
    types: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types
            types[name] = kind
        elif not line.startswith("# HELP "):
            match = LINE.match(line)
            assert match is not None, line
            assert types[match[1]] == ("counter" if match[1].endswith("_total") else "gauge")
            found[match[1], match[2]] = float(match[3])
    assert text.endswith("\n")
    return found


HOST = HostReading(
    watts=None,
    energy_joules=None,
    source="",
    cpu_utilization_ratio=0.25,
    memory_used_ratio=0.5,
    load_average=1.0,
)


def test_names_have_units_and_what_is_unknown_is_left_out() -> None:
    first = replace(gpu("a-0", 410.5), throttle_seconds={"power cap": 1.5})
    lost = replace(gpu("a-1", 300.0), error="lost")
    text = metrics_text("c1", [first, lost], {"a-0": GpuEnergy(booked_joules=12.5)}, HOST)
    found = parsed(text)
    labels = 'node="c1",gpu="0",uuid="a-0"'
    assert found["slurm_power_gpu_watts", labels] == 410.5
    assert found["slurm_power_gpu_joules_total", labels] == 12.5
    assert found["slurm_power_gpu_throttled_seconds_total", labels + ',reason="power cap"'] == 1.5
    assert found["slurm_power_gpu_up", 'node="c1",gpu="1",uuid="a-1"'] == 0.0
    assert ("slurm_power_gpu_watts", 'node="c1",gpu="1",uuid="a-1"') not in found
    assert found["slurm_power_host_cpu_utilization_ratio", 'node="c1"'] == 0.25
    assert not any(name == "slurm_power_host_watts" for name, _ in found)


def test_labels_are_escaped() -> None:
    found = parsed(metrics_text('c"1\\', [gpu("a-0", 1.0)], {}, None))
    assert ("slurm_power_gpu_watts", 'node="c\\"1\\\\",gpu="0",uuid="a-0"') in found


def test_a_folder_that_cannot_be_written_keeps_the_old_file(tmp_path: Path) -> None:
    file = tmp_path / "power.prom"
    write_metrics(file, "old\n")
    (tmp_path / ".power.prom.new").mkdir()
    with pytest.raises(OSError, match=r"power\.prom"):
        write_metrics(file, "new\n")
    assert file.read_text() == "old\n"


def test_powerd_writes_it_and_goes_on_when_it_cannot(bench: NodeBench) -> None:
    file = bench.folder / "metrics" / "power.prom"
    bench.settings["metrics_textfile"] = str(file)
    bench.start()
    wait_until(lambda: "power.prom" in bench.log_text(), "the complaint")
    file.parent.mkdir()
    wait_until(file.exists, "the file", seconds=12.0)
    found = parsed(file.read_text())
    watts = {labels: value for (name, labels), value in found.items() if name == "slurm_power_gpu_watts"}
    assert len(watts) == 4
    assert all(50.0 < value < 200.0 for value in watts.values())
    assert bench.log_text().count("power.prom") == 1
