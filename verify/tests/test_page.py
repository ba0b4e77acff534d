"""The page in a real browser: nothing is requested, nothing overflows, everything can be read.

Headless Chromium, by Selenium and Debian's chromedriver; `tox -e page` has what it needs but these two, which
`apt-get install chromium chromium-driver` brings. Where they are missing the tests are skipped and say so, but
fail where GRADCERT_BROWSER=required. GRADCERT_PAGE names another page than one made of a small run.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

WIDTHS = (400, 1000, 1600)
SCHEMES = ("light", "dark")
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND"),
)

# Every text with its contrast, by WCAG 2's relative luminance: its colour, laid on what is below it.
_CONTRASTS = """
const parse = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length > 3 ? n : [...n, 1]; };
const over = (top, under) => [0, 1, 2].map(i => top[3] * top[i] + (1 - top[3]) * under[i]);
const linear = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const luminance = c => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
const canvas = matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0] : [255, 255, 255];
const below = e => e ? over(parse(getComputedStyle(e).backgroundColor), below(e.parentElement)) : canvas;
const found = [];
for (const details of document.querySelectorAll('details')) details.open = true;
for (const e of document.body.querySelectorAll('*')) {
  const text = [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join('');
  if (!text || ['title', 'style', 'script'].includes(e.localName)) continue;
  const style = getComputedStyle(e), ground = below(e);
  const colour = parse(e.closest('svg') ? style.fill : style.color);
  colour[3] *= style.opacity;
  const [a, b] = [luminance(over(colour, ground)), luminance(ground)].sort((x, y) => y - x);
  found.push([text, (a + 0.05) / (b + 0.05)]);
}
return found;
"""
# What sticks out of the window and is not inside a box that scrolls.
_OVERFLOWING = """
for (const details of document.querySelectorAll('details')) details.open = true;
const scrolls = e => e && (['auto', 'scroll'].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
const root = document.scrollingElement, width = root.clientWidth;
const found = [...document.body.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > width + 0.5);
const names = found.filter(e => !scrolls(e)).map(e => e.localName + ' ' + e.textContent.trim().slice(0, 40));
return root.scrollWidth > innerWidth ? ['the page: ' + root.scrollWidth, ...names] : names;
"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A headless Chromium that keeps a log of its requests."""
    missing = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    try:
        from selenium import webdriver
        from selenium.webdriver.chrome.service import Service
    except ModuleNotFoundError:
        missing.append("selenium")
    if missing:
        reason = f"THE PAGE IS NOT TESTED IN A BROWSER: no {', '.join(missing)} here"
        if os.environ.get("GRADCERT_BROWSER") == "required":
            pytest.fail(reason)
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    for flag in (*_FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(request: pytest.FixtureRequest, browser: Any) -> Path:
    """The page to look at."""
    if named := os.environ.get("GRADCERT_PAGE"):
        return Path(named).resolve(strict=True)
    report = pytest.importorskip("benchmarks.report.__main__", reason="the report is an extra: gradcert[report]")
    run: Path = request.getfixturevalue("small_run")
    assert CliRunner().invoke(report.main, [str(run)]).exit_code == 0
    return run.with_name("report.html")


def _opened(browser: Any, page: Path, width: int = 1000, scheme: str = "light") -> list[str]:
    """Open the page; the addresses that were asked for besides its own."""
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    )
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get_log("performance")  # forget what came before
    browser.get(page.as_uri())
    browser.execute_async_script("setTimeout(arguments[0], 300)")  # what was asked for while it loaded is told late
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [each["params"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    # Chromium's own page, with which it starts, may still be loading.
    sent = [each["request"]["url"] for each in requests if not each["documentURL"].startswith("chrome://")]
    assert page.as_uri() in sent, "the log must hold the page itself, or it proves nothing"
    return [address for address in sent if address != page.as_uri() and not address.startswith("data:")]


def _poor(browser: Any) -> list[tuple[str, float]]:
    """Texts of a contrast below WCAG 2's 4.5."""
    found = browser.execute_script(_CONTRASTS)
    assert found, "a page has text"
    return [(text, contrast) for text, contrast in found if not contrast >= 4.5]


@pytest.mark.long
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_asks_for_nothing_overflows_nowhere_and_can_be_read(
    browser: Any, page: Path, width: int, scheme: str
) -> None:
    assert _opened(browser, page, width, scheme) == []
    assert browser.execute_script("return innerWidth") == width
    assert browser.execute_script(f"return matchMedia('(prefers-color-scheme: {scheme})').matches")
    assert len(browser.find_elements("css selector", "svg text")) > 10
    assert browser.execute_script(_OVERFLOWING) == []
    assert _poor(browser) == []


@pytest.mark.long
def test_whether_the_goals_are_met_is_seen_on_a_telephone(browser: Any, page: Path) -> None:
    _opened(browser, page, 400)
    box = "const box = document.querySelector('.goals .scroll'); return [box.scrollWidth, box.clientWidth]"
    needed, there = browser.execute_script(box)
    assert 0 < needed <= there


@pytest.mark.long
def test_the_schemes_differ(browser: Any, page: Path) -> None:
    colours = set()
    for scheme in SCHEMES:
        _opened(browser, page, scheme=scheme)
        colours.add(browser.execute_script("return getComputedStyle(document.body).backgroundColor"))
    assert len(colours) == 2


def _planted(tmp_path: Path, body: str) -> Path:
    path = tmp_path / "planted.html"
    path.write_text(f"<!doctype html><link rel=icon href=data:,><body><p>Words.</p>{body}</body>", encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "body",
    [
        '<img src="http://example.org/x.png">',
        "<style>p { background: url(http://example.org/x.png) }</style>",
        '<script>fetch("http://example.org/x")</script>',
        '<link rel="stylesheet" href="x.css">',
        '<iframe src="http://example.org/x"></iframe>',
    ],
)
def test_a_planted_request_is_seen(browser: Any, tmp_path: Path, body: str) -> None:
    asked = _opened(browser, _planted(tmp_path, body))
    assert len(asked) == 1
    assert asked[0].rpartition("/")[2].startswith("x")


@pytest.mark.parametrize("style", ["width: 900px", "margin-left: 390px; width: 40px"])
def test_a_planted_overflow_is_seen(browser: Any, tmp_path: Path, style: str) -> None:
    _opened(browser, _planted(tmp_path, f'<div style="{style}">Wide.</div>'), 400)
    assert any("Wide." in name for name in browser.execute_script(_OVERFLOWING))
    boxed = f'<div style="overflow-x: auto"><div style="{style}">Wide.</div></div>'
    _opened(browser, _planted(tmp_path, boxed), 400)
    assert browser.execute_script(_OVERFLOWING) == []


@pytest.mark.parametrize(
    "body",
    [
        '<p style="color: #888">Pale.</p>',
        '<div style="background: #333"><p>Pale.</p></div>',
        '<p style="opacity: 0.3">Pale.</p>',
        '<svg><text y="20" style="fill: #999">Pale.</text></svg>',
    ],
)
def test_planted_pale_text_is_seen(browser: Any, tmp_path: Path, body: str) -> None:
    _opened(browser, _planted(tmp_path, body))
    assert [text for text, _ in _poor(browser)] == ["Pale."]
