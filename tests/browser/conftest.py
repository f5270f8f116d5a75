"""A browser for the pages, where this machine has one."""

import pytest

from tests.browser.client import Browser, find_browser


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """A headless browser with one page; tests are skipped where there is none."""
    program = find_browser()
    if program is None:
        pytest.skip("no Chromium on this machine (apt-get install chromium)")
    with Browser(program, tmp_path_factory.mktemp("profile")) as started:
        yield started
