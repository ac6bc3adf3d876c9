"""The series contract on VictoriaMetrics, started here on loopback, and what happens when it is away."""

import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from slurm_power.cli.slurm_power import main
from slurm_power.config.store import check_url
from slurm_power.ports import SeriesReader, SeriesWriter, StoreError
from slurm_power.store.background import BackgroundSeries
from slurm_power.store.prometheus import PrometheusReader, PrometheusWriter, metric_of
from tests.store.contract_series import Engine, SeriesContract, after, known
from tests.store.test_background import until

PROGRAM = shutil.which("victoria-metrics")
GRID = "circuit.grid.watts"


class Victoria:
    """A VictoriaMetrics with a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        assert PROGRAM is not None, "install the package victoria-metrics"
        words = ["-storageDataPath", str(self._folder / "vm"), "-httpListenAddr", f"127.0.0.1:{self.port}"]
        with (self._folder / "vm.log").open("wb") as log:
            self._process = subprocess.Popen(
                [PROGRAM, *words, "-retentionPeriod=10y"], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 30.0
        while True:
            try:
                self.get("/health")
                return
            except OSError:
                assert time.monotonic() < deadline, (self._folder / "vm.log").read_text()[-2000:]
                time.sleep(0.05)

    def get(self, path: str) -> None:
        urllib.request.urlopen(self.url + path, timeout=10.0).close()

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30.0)
            self._process = None


@pytest.fixture(scope="module")
def victoria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Victoria]:
    server = Victoria(tmp_path_factory.mktemp("victoria"))
    server.start()
    yield server
    server.stop()


class OnVictoria(Engine):
    """One site of it: sites do not see each other's series."""

    def __init__(self, victoria: Victoria, site: str) -> None:
        self._victoria, self._site = victoria, site
        self._readers: list[PrometheusReader] = []

    def writer(self) -> SeriesWriter:
        return PrometheusWriter(self._victoria.url, self._site)

    def reader(self) -> SeriesReader:
        self._readers.append(PrometheusReader(self._victoria.url, self._site))
        return self._readers[-1]

    def settle(self) -> None:
        self._victoria.get("/internal/force_flush")

    def close(self) -> None:
        for reader in self._readers:
            reader.close()


class TestVictoriaMetrics(SeriesContract):
    @pytest.fixture
    def engine(self, victoria: Victoria, request: pytest.FixtureRequest) -> Iterator[Engine]:
        engine = OnVictoria(victoria, f'site "{request.node.name}"\\')
        yield engine
        engine.close()


def test_an_engine_that_goes_away_costs_nothing_that_the_queue_holds(tmp_path: Path) -> None:
    victoria = Victoria(tmp_path)
    series = BackgroundSeries(lambda: PrometheusWriter(victoria.url, "s"), queue_ticks=50)
    series.add(after(0), {GRID: 0.0})
    until(lambda: "refused" in series.problem)
    victoria.start()
    try:
        for second in range(1, 10):
            series.add(after(second), {GRID: float(second)})
        until(lambda: series.queued_ticks == 0 and series.problem == "")
        victoria.stop()
        for second in range(10, 80):
            series.add(after(second), {GRID: float(second)})
        until(lambda: series.problem != "")
        victoria.start()
        until(lambda: series.queued_ticks == 0 and series.problem == "")
        series.close()
        victoria.get("/internal/force_flush")
        reader = PrometheusReader(victoria.url, "s")
        found = set(known(reader.read([GRID])[GRID]))
        reader.close()
    finally:
        victoria.stop()
    assert set(range(10)) <= found
    assert set(range(31, 80)) <= found, "the newest of the outage were queued"
    assert series.lost_ticks >= 20, "and what the queue could not hold is counted"
    assert len(found) + series.lost_ticks == 80


def test_export_reads_the_engine(victoria: Victoria, tmp_path: Path) -> None:
    writer = PrometheusWriter(victoria.url, "exported")
    for second in range(120):
        writer.add(after(second), {GRID: 1000.5, "ess.b.soc_ratio": None})
    writer.close()
    victoria.get("/internal/force_flush")
    out = tmp_path / "out.csv"
    words = ["export", "--url", victoria.url, "--site", "exported", "--out", str(out), "--resolution", "1min"]
    result = CliRunner().invoke(
        main, [*words, "--since", after(0).isoformat(), "--until", after(120).isoformat()]
    )
    assert result.exit_code == 0, result.output
    assert out.read_text().splitlines()[1:] == [
        "2026-01-02T03:00:00.000Z,1000.5,1000.5,1000.5,1.0",
        "2026-01-02T03:01:00.000Z,1000.5,1000.5,1000.5,1.0",
    ]
    for wrong in (
        ["--url", victoria.url],
        ["--state", "/tmp", "--url", victoria.url],
        [],
        ["--url=x", "--site=s"],
    ):
        assert CliRunner().invoke(main, ["export", *wrong]).exit_code == 2


def test_what_is_no_engine_says_so(victoria: Victoria) -> None:
    reader = PrometheusReader(victoria.url + "/nothing", "s")
    with pytest.raises(StoreError, match=r"/nothing/api/v1/series: 400|no answer of a Prometheus API|404"):
        reader.names()
    reader.close()


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://127.0.0.1:8428", ""),
        ("https://tsdb.example/insert", ""),
        ("127.0.0.1:8428", "no address"),
        ("http://host:99999", "no address"),
        ("ftp://host", "no address"),
        ("http://host/?a=b", "leave out"),
    ],
)
def test_addresses(url: str, said: str) -> None:
    assert (check_url(url) == "") if not said else (said in check_url(url))


def test_metrics_are_named_by_kind_and_unit() -> None:
    named = [
        metric_of(name) for name in (GRID, "gpu.c1.GPU-1-2.watts", "caps.withheld_watts", "ess.a.b.soc_ratio")
    ]
    assert named == [
        "slurm_power_recorded_circuit_watts",
        "slurm_power_recorded_gpu_watts",
        "slurm_power_recorded_caps_withheld_watts",
        "slurm_power_recorded_ess_soc_ratio",
    ]
