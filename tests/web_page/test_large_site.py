"""10,000 nodes: the most that powerctld tells of so many, powerweb as on a site, and the first picture.

A socket tells it in powerctld's place: on the two cores of a test a planner of 10,000 nodes would take from
browser and powerweb what they have for themselves on a site.
"""

import json
import random
import socketserver
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from containers.bench.web import answers_on, free_port, running
from containers.bench.web_ground import site_text
from slurm_power import clock
from slurm_power.config import load_site
from slurm_power.model.role import Role
from slurm_power.web.keys import FILE_NAME, Keys
from tests.web_page.browser import Browser
from tests.web_page.site_server import Site
from tests.web_page.test_page_long import large as grow

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

NODES = 10_000
TRIES = 5
MOST_BYTES = 500_000


@contextmanager
def repeating(path: Path, live: dict[str, Any]) -> Iterator[None]:
    """Answer each question for the picture with ``live``, as of now; all others are refused."""
    at = live["at"].encode()
    text = json.dumps(live, separators=(",", ":")).encode() + b"\n"

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            if json.loads(self.rfile.readline())["op"] == "live":
                self.wfile.write(text.replace(at, clock.now().isoformat().encode(), 1))
            else:
                self.wfile.write(b'{"ok":false,"error":"this one only repeats a picture"}\n')

    path.unlink(missing_ok=True)
    with socketserver.ThreadingUnixStreamServer(str(path), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}).start()
        try:
            yield
        finally:
            server.shutdown()


def most_told() -> dict[str, Any]:
    """2,000 jobs, 100 racks and 500 nodes of 10,000, no two alike: what is alike packs too well."""
    site, draw = Site(), random.Random(8)
    grow(site, jobs=2000, racks=100, nodes=5)
    for job in site.picture["jobs"]:
        job["name"] = f"{draw.choice(('train', 'eval', 'serve', 'sweep'))}-{draw.getrandbits(32):x}"
        job["user"] = f"u{draw.randrange(300)}"
        job["nodes"] = [f"n{draw.randrange(NODES)}" for _ in range(draw.randrange(1, 9))]
        for key in ("gpu_watts", "energy_joules", "cap_watts", "coverage_ratio", "slowdown_ratio"):
            job[key] = round(draw.random() * 9000.0, 3)
    for circuit in site.picture["circuits"]:
        circuit["watts"] = round(draw.random() * circuit["limit_watts"], 1)
    return {"ok": True, **site.picture}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """Address and token of an operator."""
    folder, port = tmp_path_factory.mktemp("large"), free_port()
    (folder / "site.toml").write_text(site_text(NODES, folder, free_port(), port))
    config = load_site(folder / "site.toml")
    keys = Keys(config.controller.state_directory / FILE_NAME)
    token, _ = keys.make_token("operator", Role.OPERATOR, now_seconds=time.time(), seconds=3600.0)
    with (
        repeating(config.controller.socket, most_told()),
        running("slurm_power.cli.powerweb", "--config", str(folder / "site.toml")) as web,
    ):
        answers_on(port, web)
        yield f"http://127.0.0.1:{port}/", token


def test_the_first_picture_of_ten_thousand_nodes(browser: Browser, large: tuple[str, str]) -> None:
    address, token = large
    headers = {"Authorization": f"Bearer {token}"}
    browser.driver.execute_cdp_cmd("Network.enable", {})
    browser.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": headers})
    found = []
    try:
        for _ in range(TRIES):
            browser.open("about:blank")
            browser.driver.execute_cdp_cmd("Network.clearBrowserCache", {})
            browser.network()
            browser.open(address)
            browser.until_pictures()
            found.append((browser.first_picture_milliseconds(), browser.transferred_bytes()))
    finally:
        browser.driver.execute_cdp_cmd("Network.setExtraHTTPHeaders", {"headers": {}})
    for milliseconds, size in found:
        print(f"first picture of {NODES} nodes painted after {milliseconds:.0f} ms, {size} bytes until then")
    assert "of 2000" in browser.text("#jobs-pages")
    assert "more are not listed" in browser.text("#circuits-pages")
    assert max(size for _, size in found) <= MOST_BYTES
    assert min(milliseconds for milliseconds, _ in found) <= 2_000
