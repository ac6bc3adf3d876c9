"""One browser for the folder, a fresh site for each test."""

from collections.abc import Iterator

import pytest

from tests.web_page.browser import Browser, browsing
from tests.web_page.site_server import Site, serving


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with browsing() as browser:
        yield browser


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def address(site: Site) -> Iterator[str]:
    with serving(site) as found:
        yield found


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """The browser as a desktop in light; on an empty page again afterwards, so that no stream stays open."""
    chromium.size(1440, 900)
    chromium.features(prefers_color_scheme="light")
    yield chromium
    chromium.open("about:blank")
    chromium.complaints()
    chromium.network()


@pytest.fixture
def page(browser: Browser, address: str) -> Browser:
    """The browser with the page open and drawn."""
    browser.open(address)
    browser.until_pictures()
    return browser
