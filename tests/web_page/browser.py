"""A headless Chromium that talks to nobody but the page's server."""

import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

_SWITCHES = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars", "--window-size=1440,900"),
    # A page that was left is gone, with its stream: a browser has six connections to a server.
    "--disable-features=BackForwardCache",
)


class Browser:
    """One window. ``driver`` is selenium's."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self.driver = driver

    def size(self, width: int, height: int) -> None:
        """Give the page just this size, as a device of it would."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def features(self, **features: str) -> None:
        """Have media features as a system would have them: ``prefers_color_scheme="dark"``."""
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": listed})

    def open(self, address: str) -> None:
        """Load a page."""
        self.driver.get(address)

    def ask(self, script: str, *words: Any) -> Any:
        """Run ``script`` in the page and return what it returns."""
        return self.driver.execute_script(script, *words)

    def text(self, selector: str) -> str:
        """The visible text of the first element that is meant."""
        found = self.ask("return document.querySelector(arguments[0])?.innerText ?? ''", selector)
        return str(found)

    def click(self, selector: str) -> None:
        """Click on it, as a mouse does: it has to be in sight."""
        self.driver.find_element("css selector", selector).click()

    def fill(self, selector: str, text: str) -> None:
        """Type into a field, in place of what was there."""
        field = self.driver.find_element("css selector", selector)
        field.clear()
        field.send_keys(text)

    def until(self, happened: Callable[[], Any], what: str, seconds: float = 20.0) -> Any:
        """Poll until something is true; fails naming it."""
        deadline = time.monotonic() + seconds
        while True:
            found = happened()
            if found:
                return found
            if time.monotonic() > deadline:
                pytest.fail(f"not within {seconds:g} s: {what}; the heading: {self.text('h1')!r}")
            time.sleep(0.02)

    def until_pictures(self, count: int = 1) -> None:
        """Wait until the page has drawn so many more pictures."""
        before = self._pictures()
        self.until(lambda: self._pictures() >= before + count, f"{count} more pictures")

    def _pictures(self) -> int:
        return int(self.ask("return document.body.dataset.pictures ?? 0"))

    def first_picture_milliseconds(self) -> float:
        """When the first picture was painted after the page's start, by the browser's own word."""
        found = self.until(
            lambda: self.driver.execute_async_script(
                "const done = arguments[0]; const seen = new PerformanceObserver((list) => {"
                "  const one = list.getEntries().find((entry) => entry.identifier === 'first-picture');"
                "  if (one) done(one.renderTime); });"
                "seen.observe({type: 'element', buffered: true}); setTimeout(() => done(0), 500);"
            ),
            "the paint of the first picture",
        )
        return float(found)

    def transferred_bytes(self) -> int:
        """Bytes that came over the network since the last look, headers and streams included."""
        sizes = 0
        for event in self.network():
            if event["method"] == "Network.responseReceived":
                sizes += int(event["params"]["response"]["encodedDataLength"])  # the headers
            elif event["method"] == "Network.dataReceived":
                sizes += int(event["params"]["encodedDataLength"])
        return sizes

    def measures(self) -> dict[str, float]:
        """The browser's own figures of the page, such as JSHeapUsedSize in bytes, after a collection."""
        self.driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
        self.driver.execute_cdp_cmd("Performance.enable", {})
        rows: list[dict[str, Any]] = self.driver.execute_cdp_cmd("Performance.getMetrics", {})["metrics"]
        return {row["name"]: row["value"] for row in rows}

    def complaints(self) -> list[str]:
        """Errors and refusals of the content security policy since the last look."""
        return [str(row["message"]) for row in self._log("browser") if row["level"] == "SEVERE"]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.driver.execute("getLog", {"type": kind})["value"]
        return found

    def network(self) -> list[dict[str, Any]]:
        """Events of the network since the last look, as the browser's own tools see them."""
        found = [json.loads(row["message"])["message"] for row in self._log("performance")]
        return [event for event in found if event["method"].startswith("Network.")]

    def screenshot(self, file: Path) -> None:
        """Write what is in sight as a PNG."""
        if not self.driver.save_screenshot(str(file)):
            pytest.fail(f"no screenshot was written to {file}")


@contextmanager
def browsing(*, watched: bool = True) -> Iterator[Browser]:
    """A browser with an empty profile; nothing is left of it.

    ``watched``: its network and errors are written down, which takes memory for each message of a stream.
    """
    chromium, chromedriver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or chromedriver is None:
        pytest.fail("chromium or chromedriver is missing: containers/install-packages.sh browser")
    folder = tempfile.mkdtemp(prefix="sp-browser-", dir="/tmp")
    options = Options()
    options.binary_location = chromium
    for switch in (*_SWITCHES, f"--user-data-dir={folder}"):
        options.add_argument(switch)
    if watched:
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With the driver's path selenium looks for none, and downloads none.
    os.environ["SE_OFFLINE"] = "true"
    driver = webdriver.Chrome(options=options, service=Service(executable_path=chromedriver))
    try:
        driver.set_page_load_timeout(60)
        yield Browser(driver)
    finally:
        driver.quit()
        shutil.rmtree(folder, ignore_errors=True)
