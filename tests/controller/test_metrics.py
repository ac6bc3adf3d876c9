"""What is scraped parses as Prometheus reads it, names no user unasked, and a wrong request is told so."""

import asyncio
import socket
import urllib.error
import urllib.request
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from slurm_power import clock
from slurm_power.config import ConfigError, load_site
from slurm_power.controller.daemon import Controller
from slurm_power.controller.records.metrics import Own, exposition
from slurm_power.controller.sensing.authority import make_authority
from slurm_power.model.forecast import CircuitForecast, Reach, RecentScore
from slurm_power.plan.policy import Policy
from slurm_power.store.sqlite import SqliteStore
from tests.controller.test_user_socket import SITE, Queue
from tests.plan.situations import running, situation

OWN = Own(
    uptime_seconds=9.0,
    cycle_seconds=0.01,
    cycles=9,
    failed_cycles=0,
    control=True,
    connected_nodes=2,
    shortfalls=0,
    queued_ticks=1,
    lost_ticks=3,
    lease_states={("c1", "verified"): 8},
    forecast_worker=True,
    forecasts=(
        CircuitForecast(
            circuit="grid",
            reach=Reach.NEAR,
            issued_seconds=1.7e9,
            step_seconds=60.0,
            p10_watts=(1.0, 2.0),
            p50_watts=(5.0, 3.0),
            p90_watts=(6.0, 9.0),
            source="blend",
            score=RecentScore(
                forecasts=40,
                mae_watts=120.0,
                best_naive="persistence",
                best_naive_mae_watts=130.0,
                coverage_ratio=0.8,
                bias_watts=-3.0,
            ),
        ),
    ),
)


def scraped(*, users: bool = False, site: str = "lab") -> dict[tuple[str, str], float]:
    snapshot = situation(jobs=(running("1", ("c1",)),))
    snapshot = replace(snapshot, site=replace(snapshot.site, name=site))
    text = exposition(snapshot, Policy(), OWN, {"1": 5e6, "gone": 1.0}, users=users)
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.documentation
        assert family.type in ("gauge", "counter")
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total")
            assert sample.labels.pop("site") == site
            found[sample.name, ",".join(sample.labels.values())] = sample.value
    return found


def test_names_values_and_labels() -> None:
    found = scraped()
    assert found["slurm_power_job_gpu_watts", "1"] == 5200.0
    assert found["slurm_power_job_energy_joules_total", "1"] == 5e6
    assert found["slurm_power_series_lost_ticks_total", ""] == 3.0
    assert found["slurm_power_leases", "c1,verified"] == 8.0
    assert found["slurm_power_jobs", "running"] == 1.0
    assert ("slurm_power_job_energy_joules_total", "gone") not in found
    snapshot = situation(jobs=(running("1", ("c1",)),))
    for name, reading in snapshot.circuits.items():
        assert found["slurm_power_circuit_watts", name] == reading.known_watts()
    for name, value in (("peak", 5.0), ("peak_p90", 9.0), ("mae", 120.0), ("naive_mae", 130.0)):
        assert found[f"slurm_power_forecast_{name}_watts", "grid,near"] == value
    assert found["slurm_power_forecast_fallback", "grid,near"] == 0.0
    assert found["slurm_power_forecast_worker_up", ""] == 1.0
    drawn = [value for (metric, _), value in found.items() if metric == "slurm_power_gpu_watts"]
    assert len(drawn) == sum(len(node.gpus) for node in snapshot.nodes.values())


def test_no_user_is_named_unless_wanted() -> None:
    assert not any("alice" in labels for _, labels in scraped())
    assert ("slurm_power_job_gpu_watts", "1,alice") in scraped(users=True)


def test_any_name_of_a_site_can_be_told() -> None:
    assert scraped(site='a "b"\\c\nd')


def test_a_controller_is_scraped_over_http(tmp_path: Path) -> None:
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as free:
            ports.append(free.getsockname()[1])
    file = tmp_path / "site.toml"
    file.write_text(
        SITE.format(port=ports[0], folder=tmp_path) + f'\n[metrics]\nlisten = "127.0.0.1:{ports[1]}"\n'
    )

    def get(path: str, method: str = "GET") -> tuple[int, str]:
        request = urllib.request.Request(f"http://127.0.0.1:{ports[1]}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=5.0) as answer:
                assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, ""

    make_authority(tmp_path / "tls", "small", ["127.0.0.1"], clock.now())

    async def run() -> list[tuple[int, str]]:
        store = SqliteStore(tmp_path / "s.sqlite")
        controller = Controller(load_site(file), store, meters={}, storages={}, scheduler=Queue())
        task = asyncio.create_task(controller.run())
        await asyncio.sleep(1.2)
        asked = [("/metrics",), ("/metrics?x=1",), ("/",), ("/metrics", "POST")]
        answers = [await asyncio.to_thread(get, *words) for words in asked]
        controller.stop()
        await task
        store.close()
        return answers

    answers = asyncio.run(run())
    assert [status for status, _ in answers] == [200, 200, 404, 405]
    samples = {s.name: s.value for f in text_string_to_metric_families(answers[0][1]) for s in f.samples}
    assert samples["slurm_power_controller_cycles_total"] >= 1.0
    assert samples["slurm_power_controller_failed_cycles_total"] == 0.0


def test_a_taken_address_is_a_fault_and_control_goes_on(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    file = tmp_path / "site.toml"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        file.write_text(SITE.format(port=port, folder=tmp_path) + f'\n[metrics]\nlisten = "{listen}"\n')

        make_authority(tmp_path / "tls", "small", ["127.0.0.1"], clock.now())

        async def run() -> list[tuple[str, str]]:
            store = SqliteStore(tmp_path / "s.sqlite")
            controller = Controller(load_site(file), store, meters={}, storages={}, scheduler=Queue())
            task = asyncio.create_task(controller.run())
            await asyncio.sleep(0.3)
            controller.stop()
            await task
            found = [(entry.kind, entry.subject) for entry in store.entries()]
            store.close()
            return found

        assert ("fault", "metrics") in asyncio.run(run())


def test_a_wrong_address_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "site.toml"
    file.write_text(SITE.format(port=1, folder=tmp_path) + '\n[metrics]\nlisten = "nowhere"\nuser = true\n')
    with pytest.raises(ConfigError) as refused:
        load_site(file)
    assert any(problem.startswith("metrics.user: unknown key") for problem in refused.value.problems)
