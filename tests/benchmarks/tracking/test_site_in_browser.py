"""The site of benchmark results in a real browser, opened from files: grid, list, a graph, the start page."""

from __future__ import annotations

import time

import pytest
from chromium import CHROMIUM, Browser

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="Chromium is not installed: the site of benchmarks was not seen in a browser"
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def visit(browser, site, place, shown):
    """Go to a page of the site, wait until a script finds something shown, and see that all went well."""
    page, _ = site
    browser.visit(page.parent.as_uri() + "/" + place)
    deadline = time.monotonic() + 10.0
    while not browser.run(shown):
        errors = browser.seen("Runtime.exceptionThrown", "Log.entryAdded")
        assert time.monotonic() < deadline, f"{place}: nothing shown; {errors}"
        time.sleep(0.02)
    assert browser.seen("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded") == []
    assert browser.seen("Network.loadingFailed") == []
    asked = {event["request"]["url"] for event in browser.seen("Network.requestWillBeSent")}
    assert asked
    assert all(url.startswith((page.parent.as_uri() + "/", "data:")) for url in asked)


def inked(selector):
    """Count the pixels drawn on all canvases within."""
    return f"""[...document.querySelectorAll({selector!r})].map((c) =>
        c.getContext("2d").getImageData(0, 0, c.width, c.height).data.reduce((n, v, i) => n + (i % 4 === 3 && v > 0), 0))"""


def test_the_start_page_is_shown(browser, site):
    visit(browser, site, "index.html", "document.querySelectorAll('#goals tbody tr').length === 11")
    assert browser.run("document.querySelector('h1').innerText") == "refdeq benchmarks"
    assert browser.run("document.documentElement.scrollWidth") <= 1400


def test_a_commit_of_the_start_page_is_found_by_its_address(browser, site):
    _, past = site
    commit = past.commits[1][:8]
    visit(browser, site, f"index.html#{commit}", "document.querySelector('tr:target') !== null")
    assert "Step 1 & more" in browser.run("document.querySelector('tr:target').innerText")


def test_the_grid_shows_every_benchmark(browser, site):
    visit(browser, site, "asv/index.html", "document.querySelectorAll('#summarygrid-display canvas.flot-base').length >= 3")
    assert all(count > 100 for count in browser.run(inked("#summarygrid-display canvas.flot-base")))
    names = browser.run("document.getElementById('summarygrid-display').innerText")
    assert "Sine.time_solve" in names


def test_the_list_shows_latest_values(browser, site):
    visit(browser, site, "asv/index.html#/summarylist", "document.querySelectorAll('#summarylist-body tbody tr').length >= 3")
    text = browser.run("document.getElementById('summarylist-body').innerText")
    assert "solves.Sine.track_ratio (numba, 0.1)" in text.replace("'", "")
    assert "4.25" in text


def test_a_graph_shows_its_points(browser, site):
    drawn = "document.querySelectorAll('#main-graph canvas.flot-base').length === 1"
    visit(browser, site, "asv/index.html#solves.Sine.track_ratio", drawn)
    points = browser.run(
        "$('#main-graph').data('plot').getData().map((s) => s.data.filter((p) => p[1] !== null).map((p) => p[1]))"
    )
    assert [4.25] * 3 in points
    assert [2.5] * 3 in points
    assert browser.run(inked("#main-graph canvas.flot-base"))[0] > 1000
    legend = browser.run("document.querySelector('#main-graph .legend').innerText")
    assert "numba" in legend


def test_the_regressions_page_is_shown(browser, site):
    visit(browser, site, "asv/index.html#/regressions", "document.querySelectorAll('#regressions-body table').length > 0")


def test_the_way_back_leads_to_the_start_page(browser, site):
    page, _ = site
    visit(browser, site, "asv/index.html", "document.getElementById('project-name').href.endsWith('.html')")
    assert browser.run("document.getElementById('project-name').href") == page.as_uri()
