"""The HTML report in a real browser."""

from __future__ import annotations

import itertools
from collections import Counter

import pytest
from chromium import CHROMIUM, Browser
from refdeq_validation.reports import html

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed: the HTML report was not seen in a browser")


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def pages(reports, tmp_path_factory):
    """Addresses of the pages by verdict."""
    folder = tmp_path_factory.mktemp("pages")
    paths = {verdict: folder / f"{verdict.replace(' ', '-')}.html" for verdict in reports}
    for verdict, path in paths.items():
        path.write_text(html.render(reports[verdict]), encoding="utf-8")
    return {verdict: path.as_uri() for verdict, path in paths.items()}


VERDICTS = ("granted", "nonconformant", "incomplete", "backend error")
WIDTH = "[document.documentElement.scrollWidth, window.innerWidth]"
CONTRAST = """(() => {
  const canvas = document.createElement("canvas").getContext("2d", {willReadFrequently: true});
  const rgb = (colours) => {
    canvas.clearRect(0, 0, 1, 1);
    for (const colour of colours) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return canvas.getImageData(0, 0, 1, 1).data;
  };
  const light = (colours) => [...rgb(colours)].slice(0, 3).map((v) => v / 255)
    .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  let worst = [99, ""];
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || ["SCRIPT", "OPTION", "title"].includes(element.tagName)) continue;
    const style = getComputedStyle(element), behind = [];
    for (let at = element; at; at = at.parentElement) behind.unshift(getComputedStyle(at).backgroundColor);
    const front = element.namespaceURI.endsWith("svg") ? style.fill : style.color;
    const pair = [light(behind), light([...behind, front])].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < worst[0]) worst = [ratio, element.outerHTML.slice(0, 200)];
  }
  return worst;
})()"""


@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_page_shows_its_verdict_and_asks_for_nothing(browser, pages, verdict):
    browser.visit(pages[verdict])
    shown = browser.run("(() => { const h = document.getElementById('verdict'); return [h.innerText, h.offsetHeight]; })()")
    assert html.HEADLINES[verdict][1] in shown[0]
    assert shown[1] > 20
    assert browser.seen("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded") == []
    asked = {event["request"]["url"] for event in browser.seen("Network.requestWillBeSent")}
    assert {url for url in asked if not url.startswith("data:")} == {pages[verdict]}


@pytest.mark.parametrize("width", [400, 1400])
@pytest.mark.parametrize("verdict", VERDICTS)
def test_a_page_fits_narrow_and_wide_windows(browser, pages, verdict, width):
    browser.visit(pages[verdict], width=width)
    needed, there = browser.run(WIDTH)
    assert needed <= there == width
    tables = browser.run("Math.max(...[...document.querySelectorAll('.scroll')].map((e) => e.getBoundingClientRect().right))")
    assert tables <= width


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("verdict", VERDICTS)
def test_every_text_is_readable_by_day_and_night(browser, pages, verdict, dark):
    browser.visit(pages[verdict], dark=dark)
    browser.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    ground = browser.run("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(20, 23, 27)" if dark else "rgb(252, 251, 249)")
    ratio, where = browser.run(CONTRAST)
    assert ratio >= 4.5, where


def rows_shown(browser):
    """Families of the table's visible rows, and how many failures are visible."""
    visible = "[...document.querySelectorAll('{}')].filter((e) => e.checkVisibility())"
    families = browser.run(visible.format("#case-table tbody tr") + ".map((e) => e.dataset.family)")
    return Counter(families), browser.run(visible.format("article.failure") + ".length")


def choose(browser, **fields):
    for name, value in fields.items():
        browser.run(f"document.getElementById('filter').elements[{name!r}].value = {value!r}")
    browser.run("document.getElementById('filter').dispatchEvent(new Event('input', {bubbles: true}))")


def test_filters_hide_what_does_not_match(browser, pages, reports):
    browser.visit(pages["nonconformant"])
    cases = [result for result in reports["nonconformant"]["results"] if result["suite"] == "cases"]
    everything = Counter(result["family"] for result in cases)
    assert rows_shown(browser) == (everything, len(cases))
    choose(browser, family="sequence", backend="tail")
    assert rows_shown(browser) == (Counter(sequence=4), 4)
    choose(browser, family="", backend="", bugs="MEMORY_RULE")
    assert rows_shown(browser) == (Counter(memory=2), 2)
    choose(browser, bugs="", text="no such case")
    assert rows_shown(browser) == (Counter(), 0)
    assert browser.run("document.getElementById('no-failures').checkVisibility()")
    assert browser.run("document.querySelector('#filter output').textContent") == "0 failures, 0 of 14 cases shown"
    browser.run("document.querySelector('#filter button[type=reset]').click()")
    browser.run("new Promise((done) => setTimeout(done))")
    assert rows_shown(browser) == (everything, len(cases))


def test_a_cell_of_the_matrix_leads_to_its_cases(browser, pages):
    browser.visit(pages["nonconformant"])
    browser.run("document.querySelector('a.cell[data-family=memory][data-backend=tail]').click()")
    assert rows_shown(browser) == (Counter(memory=1), 1)
    assert browser.run("location.hash") == "#cases"


def test_a_link_to_a_case_arrives_there(browser, pages, reports):
    last = reports["nonconformant"]["results"][-2]
    browser.visit(f"{pages['nonconformant']}#{last['backend']}:{last['id']}")
    top, marked = browser.run(
        "(() => { const e = document.querySelector('.target'); return [e.getBoundingClientRect().top, e.id]; })()"
    )
    assert marked == f"{last['backend']}:{last['id']}"
    assert top < 900


def test_a_link_to_a_case_that_the_filter_hides_arrives_too(browser, pages):
    browser.visit(pages["nonconformant"])
    choose(browser, family="memory", backend="tail")
    link = browser.run("document.querySelector('#case-table tbody tr[hidden] a').getAttribute('href')")
    browser.run(f"new Promise((done) => {{ addEventListener('hashchange', done); location.hash = {link!r}; }})")
    assert browser.run("document.querySelector('.target').checkVisibility()")


def test_without_scripts_everything_is_there_but_the_filter(browser, pages):
    browser.visit(pages["nonconformant"], scripts=False)
    document = browser.call("DOM.getDocument", depth=-1)["root"]["nodeId"]
    cards = browser.call("DOM.querySelectorAll", nodeId=document, selector="article.failure")["nodeIds"]
    form = browser.call("DOM.querySelector", nodeId=document, selector="form[hidden]")["nodeId"]
    assert (len(cards), bool(form)) == (14, True)


def test_paper_gets_no_controls(browser, pages):
    browser.visit(pages["nonconformant"], media="print")
    assert not browser.run("[...document.querySelectorAll('nav, form, .copy')].some((e) => e.checkVisibility())")
    assert len(browser.call("Page.printToPDF")["data"]) > 10_000


def test_the_page_is_laid_out_for_readers_of_its_structure(browser, pages):
    browser.visit(pages["nonconformant"])
    assert browser.run("document.documentElement.lang") == "en"
    assert browser.run("document.querySelectorAll('h1').length") == 1
    levels = browser.run("[...document.querySelectorAll('h1, h2, h3')].map((e) => Number(e.tagName[1]))")
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    assert browser.run("[...document.querySelectorAll('table')].every((t) => t.caption && t.querySelector('th[scope]'))")
    assert browser.run("[...document.querySelectorAll('select, input')].every((e) => e.labels.length)")
    assert browser.run("[...document.querySelectorAll('svg[role]')].every((e) => e.getAttribute('aria-label'))")
    ids = browser.run("[...document.querySelectorAll('[id]')].map((e) => e.id)")
    assert len(ids) == len(set(ids))
