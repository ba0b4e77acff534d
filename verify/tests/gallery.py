"""What is asked of a page that people open in a browser: of the README, the handbook, a certificate and a report alike.

Headless Chromium, by Selenium and Debian's chromedriver. Where something is missing a test is skipped and says so,
but fails where GRADCERT_BROWSER=required, as in `tox -e page`.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import pytest

WIDTHS = (400, 1000, 1600)
SCHEMES = ("light", "dark")
# The most pixels along a side of a texture in Chromium: a longer page is cut there.
_TALLEST = 16_384
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update", "--host-resolver-rules=MAP * ~NOTFOUND"),
    "--hide-scrollbars",
)

_SHOWN = """
for (const details of document.querySelectorAll('details')) details.open = true;
const shown = e => e.getClientRects().length && getComputedStyle(e).visibility === 'visible';
"""
# Every text with its contrast, by WCAG 2's relative luminance: its colour, laid on what is below it. In an SVG that is
# every shape drawn before the text and under its middle, and then the page.
_CONTRASTS = (
    _SHOWN
    + """
const parse = text => {
  const n = text.match(/[\\d.]+/g).map(Number), unit = text.startsWith('color(srgb') ? 255 : 1;
  return [n[0] * unit, n[1] * unit, n[2] * unit, n.length > 3 ? n[3] : 1];
};
const over = (top, under) => [0, 1, 2].map(i => top[3] * top[i] + (1 - top[3]) * under[i]);
const linear = c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const luminance = c => 0.2126 * linear(c[0]) + 0.7152 * linear(c[1]) + 0.0722 * linear(c[2]);
const canvas = matchMedia('(prefers-color-scheme: dark)').matches ? [0, 0, 0] : [255, 255, 255];
const below = e => e ? over(parse(getComputedStyle(e).backgroundColor), below(e.parentElement)) : canvas;
const opacity = e => e ? getComputedStyle(e).opacity * opacity(e.parentElement) : 1;
const shapes = new Map();
const drawn = svg => {
  if (!shapes.has(svg)) shapes.set(svg, [...svg.querySelectorAll('*')].filter(e =>
    e instanceof SVGGeometryElement && getComputedStyle(e).fill.match(/^(rgb|color)/) &&
    !e.closest('defs, clipPath, marker, mask, pattern, symbol')));
  return shapes.get(svg);
};
const under = (text, svg) => {
  const box = text.getBoundingClientRect(), x = box.x + box.width / 2, y = box.y + box.height / 2;
  let ground = below(svg);
  for (const e of drawn(svg)) {
    if (!(e.compareDocumentPosition(text) & Node.DOCUMENT_POSITION_FOLLOWING)) break;
    const at = e.getScreenCTM() && new DOMPoint(x, y).matrixTransform(e.getScreenCTM().inverse());
    if (!at || !e.isPointInFill(at)) continue;
    const colour = parse(getComputedStyle(e).fill);
    colour[3] *= getComputedStyle(e).fillOpacity * opacity(e);
    ground = over(colour, ground);
  }
  return ground;
};
const found = [];
for (const e of document.body.querySelectorAll('*')) {
  const text = [...e.childNodes].filter(n => n.nodeType === 3).map(n => n.data.trim()).join('');
  if (!text || ['title', 'desc', 'style', 'script'].includes(e.localName) || !shown(e)) continue;
  const style = getComputedStyle(e), svg = e.closest('svg');
  const ground = svg ? under(e, svg) : below(e), colour = parse(svg ? style.fill : style.color);
  colour[3] *= opacity(e);
  const [a, b] = [luminance(over(colour, ground)), luminance(ground)].sort((x, y) => y - x);
  found.push([text, (a + 0.05) / (b + 0.05)]);
}
return found;
"""
)
# What sticks out of the window and is not inside a box that scrolls.
_OVERFLOWING = (
    _SHOWN
    + """
const scrolls = e => e && (['auto', 'scroll'].includes(getComputedStyle(e).overflowX) || scrolls(e.parentElement));
const root = document.scrollingElement, width = root.clientWidth;
const found = [...document.body.querySelectorAll('*')].filter(e => e.getBoundingClientRect().right > width + 0.5);
const wide = found.filter(e => shown(e) && !scrolls(e));
const names = wide.map(e => e.localName + ' ' + e.textContent.trim().slice(0, 40));
return root.scrollWidth > innerWidth ? ['the page: ' + root.scrollWidth, ...names] : names;
"""
)
# Images that are not there, or say nothing to those who do not see them.
_SILENT_IMAGES = (
    _SHOWN
    + """
const title = e => e.querySelector(':scope > title')?.textContent;
const named = e => e.getAttribute('alt') || e.getAttribute('aria-label') || title(e);
const images = [...document.querySelectorAll('img, svg, canvas, object, embed, [role=img]')].filter(e =>
  shown(e) && !e.parentElement.closest('svg') && !e.closest('[aria-hidden=true]'));
const bad = images.filter(e => !named(e)?.trim() || (e.localName === 'img' && !e.naturalWidth));
return bad.map(e => e.outerHTML.slice(0, 80));
"""
)


class Page(NamedTuple):
    """A page, and the folder of which it may load files. Without a folder it is one file and loads nothing."""

    path: Path
    folder: Path | None = None


def lacking(reason: str) -> None:
    """Skip a test for this reason, or fail where nothing may be missing."""
    reason = f"NOT TESTED IN A BROWSER: {reason}"
    if os.environ.get("GRADCERT_BROWSER") == "required":
        pytest.fail(reason)
    pytest.skip(reason)


def need(*modules: str) -> None:
    """Ask for modules that may not be installed."""
    if missing := [name for name in modules if find_spec(name) is None]:
        lacking(f"no {', '.join(missing)} here")


def driver(profile: Path) -> Any:
    """Return a headless Chromium that keeps a log of its requests."""
    need("selenium")
    if missing := [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]:
        lacking(f"no {', '.join(missing)} here")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    for flag in (*_FLAGS, f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.binary_location = shutil.which("chromium")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    return webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))


def opened(browser: Any, page: Page, width: int = 1000, scheme: str = "light") -> list[str]:
    """Open a page, and return the addresses outside its folder that it asked for."""
    _sized(browser, width, 900)
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.get_log("performance")  # forget what came before
    browser.get(page.path.as_uri())
    browser.execute_async_script("setTimeout(arguments[0], 300)")  # requests of a page that loads are logged late
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    requests = [each["params"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    # Chromium's own page, with which it starts, may still be loading.
    sent = [each["request"]["url"] for each in requests if not each["documentURL"].startswith("chrome://")]
    assert page.path.as_uri() in sent, "the log must hold the page itself, or it proves nothing"
    own = ("data:", *([f"{page.folder.as_uri()}/"] if page.folder else []))
    return [address for address in sent if address != page.path.as_uri() and not address.startswith(own)]


def overflowing(browser: Any) -> list[str]:
    """Return what sticks out of the window."""
    found: list[str] = browser.execute_script(_OVERFLOWING)
    return found


def pale(browser: Any) -> list[tuple[str, float]]:
    """Return texts of a contrast below the 4.5 of WCAG 2's level AA, with it."""
    found = browser.execute_script(_CONTRASTS)
    assert found, "a page has text"
    return [(text, round(contrast, 2)) for text, contrast in found if not contrast >= 4.5]


def silent_images(browser: Any) -> list[str]:
    """Return images without a text, or whose file is missing."""
    found: list[str] = browser.execute_script(_SILENT_IMAGES)
    return found


def photograph(browser: Any, path: Path) -> None:
    """Write a picture of the whole page as PNG."""
    width, height = browser.execute_script("const e = document.scrollingElement; return [innerWidth, e.scrollHeight]")
    _sized(browser, width, min(height, _TALLEST))
    shot = browser.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})
    path.write_bytes(base64.b64decode(shot["data"]))
    _sized(browser, width, 900)


def _sized(browser: Any, width: int, height: int) -> None:
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
