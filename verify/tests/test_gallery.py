"""The pages in a real browser: no request leaves them, nothing overflows, all can be read, every image has a text.

`tox -e page` has what this needs but Chromium, which `apt-get install chromium chromium-driver` brings.
GRADCERT_PAGE names another report than one made of a small run, GRADCERT_SCREENSHOTS the folder for a picture of each
page.
"""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

import gallery
from gallery import SCHEMES, WIDTHS, Page

ROOT = Path(__file__).parents[2]
HANDBOOK = ("start/find_the_bug", "how/integers", "layers/conv2d")
# As hosts of Markdown show it: wide blocks scroll, images shrink.
_HOST = """<!doctype html><meta charset=utf-8><base href="{base}/"><link rel=icon href=data:,><style>
:root {{ color-scheme: light dark; background: light-dark(#fff, #0d1117); color: light-dark(#1f2328, #f0f6fc) }}
a {{ color: light-dark(#0969da, #4493f8) }} img {{ max-width: 100% }} pre, table {{ display: block; overflow-x: auto }}
body {{ max-width: 54rem; margin: auto; padding: 1rem; font: 16px/1.5 sans-serif; overflow-wrap: break-word }}
</style><body>{body}</body>"""


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = gallery.driver(tmp_path_factory.mktemp("chromium"))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def screenshots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder for pictures of the pages."""
    named = os.environ.get("GRADCERT_SCREENSHOTS")
    folder = Path(named) if named else tmp_path_factory.mktemp("screenshots")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def readme(tmp_path_factory: pytest.TempPathFactory) -> Page:
    gallery.need("markdown_it")
    from markdown_it import MarkdownIt

    path = tmp_path_factory.mktemp("readme") / "README.html"
    body = MarkdownIt().enable("table").render((ROOT / "README.md").read_text(encoding="utf-8"))
    path.write_text(_HOST.format(base=ROOT.as_uri(), body=body), encoding="utf-8")
    return Page(path, ROOT / "docs")


@pytest.fixture(scope="module")
def handbook(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built handbook."""
    gallery.need("sphinx", "myst_parser", "pydata_sphinx_theme", "sphinx_design", "latex2mathml")
    folder = tmp_path_factory.mktemp("handbook")
    command = [sys.executable, "-m", "sphinx", "-q", "-b", "html", "docs", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page of a FAIL."""
    from verify.pictures.examples import certificate

    path = tmp_path_factory.mktemp("certificate") / "certificate.html"
    path.write_text(certificate("image-lost").to_html(), encoding="utf-8")
    return Page(path)


@pytest.fixture(scope="module")
def report(request: pytest.FixtureRequest) -> Page:
    """The benchmark report."""
    if named := os.environ.get("GRADCERT_PAGE"):
        return Page(Path(named).resolve(strict=True))
    gallery.need("jinja2", "matplotlib", "pytest_benchmark")
    command = importlib.import_module("benchmarks.report.__main__").main
    run: Path = request.getfixturevalue("small_run")
    assert CliRunner().invoke(command, [str(run)]).exit_code == 0
    return Page(run.with_name("report.html"))


@pytest.fixture(scope="module", params=["readme", *HANDBOOK, "certificate", "report"])
def page(request: pytest.FixtureRequest, browser: Any) -> tuple[str, Page]:
    """The name of a page, and the page."""
    if request.param in HANDBOOK:
        folder = request.getfixturevalue("handbook")
        return request.param.replace("/", "-"), Page(folder / f"{request.param}.html", folder)
    return request.param, request.getfixturevalue(request.param)


@pytest.mark.long
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_asks_for_nothing_overflows_nowhere_and_can_be_read(
    browser: Any, screenshots: Path, page: tuple[str, Page], width: int, scheme: str
) -> None:
    name, there = page
    assert gallery.opened(browser, there, width, scheme) == []
    assert browser.execute_script("return innerWidth") == width
    assert browser.execute_script(f"return matchMedia('(prefers-color-scheme: {scheme})').matches")
    gallery.photograph(browser, screenshots / f"{name}-{width}-{scheme}.png")
    assert gallery.overflowing(browser) == []
    assert gallery.pale(browser) == []
    assert gallery.silent_images(browser) == []


@pytest.mark.long
def test_the_schemes_differ(browser: Any, page: tuple[str, Page]) -> None:
    colours = set()
    for scheme in SCHEMES:
        gallery.opened(browser, page[1], scheme=scheme)
        grounds = "[document.documentElement, document.body].map(e => getComputedStyle(e).backgroundColor).join()"
        colours.add(browser.execute_script(f"return {grounds}"))
    assert len(colours) == 2


@pytest.mark.long
def test_the_report_has_figures_whose_words_are_text(browser: Any, report: Page) -> None:
    gallery.opened(browser, report)
    assert len(browser.find_elements("css selector", "svg text")) > 10


@pytest.mark.long
def test_whether_the_goals_are_met_is_seen_on_a_telephone(browser: Any, report: Page) -> None:
    gallery.opened(browser, report, 400)
    box = "const box = document.querySelector('.goals .scroll'); return [box.scrollWidth, box.clientWidth]"
    needed, there = browser.execute_script(box)
    assert 0 < needed <= there


def _planted(tmp_path: Path, body: str) -> Page:
    path = tmp_path / "planted.html"
    path.write_text(f"<!doctype html><link rel=icon href=data:,><body><p>Words.</p>{body}</body>", encoding="utf-8")
    return Page(path)


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
    asked = gallery.opened(browser, _planted(tmp_path, body))
    assert len(asked) == 1
    assert asked[0].rpartition("/")[2].startswith("x")


def test_a_page_may_load_files_of_its_folder_and_of_no_other(browser: Any, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    styles = '<link rel="stylesheet" href="own/x.css"><link rel="stylesheet" href="own-not/y.css">'
    page = _planted(tmp_path, styles)._replace(folder=tmp_path / "own")
    assert [address.rpartition("/")[2] for address in gallery.opened(browser, page)] == ["y.css"]


@pytest.mark.parametrize("style", ["width: 900px", "margin-left: 390px; width: 40px"])
def test_a_planted_overflow_is_seen(browser: Any, tmp_path: Path, style: str) -> None:
    gallery.opened(browser, _planted(tmp_path, f'<div style="{style}">Wide.</div>'), 400)
    assert any("Wide." in name for name in gallery.overflowing(browser))
    boxed = f'<div style="overflow-x: auto"><div style="{style}">Wide.</div></div>'
    gallery.opened(browser, _planted(tmp_path, boxed), 400)
    assert gallery.overflowing(browser) == []


_CELL = '<svg><rect width="99" height="40" style="fill: {}"/><text x="9" y="20" style="fill: {}">Pale.</text></svg>'


@pytest.mark.parametrize(
    "body",
    [
        '<p style="color: #888">Pale.</p>',
        '<p style="color: color(srgb 0.53 0.53 0.53)">Pale.</p>',
        '<div style="background: #333"><p>Pale.</p></div>',
        '<p style="opacity: 0.3">Pale.</p>',
        '<div style="opacity: 0.3"><p>Pale.</p></div>',
        '<svg><text y="20" style="fill: #999">Pale.</text></svg>',
        _CELL.format("#333", "#000"),
    ],
)
def test_planted_pale_text_is_seen(browser: Any, tmp_path: Path, body: str) -> None:
    gallery.opened(browser, _planted(tmp_path, body))
    assert [text for text, _ in gallery.pale(browser)] == ["Pale."]


@pytest.mark.parametrize("body", [_CELL.format("#333", "#fff"), '<p style="display: none; color: #888">Pale.</p>'])
def test_text_on_a_dark_cell_and_text_that_is_not_shown_are_not_pale(browser: Any, tmp_path: Path, body: str) -> None:
    gallery.opened(browser, _planted(tmp_path, body))
    assert gallery.pale(browser) == []


_GIF = "data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


@pytest.mark.parametrize(
    "body",
    [
        f'<img src="{_GIF}">',
        f'<img alt=" " src="{_GIF}">',
        '<img alt="A picture that is not there." src="data:image/gif,">',
        "<svg><rect width=9 height=9 /></svg>",
        "<svg><title></title><rect width=9 height=9 /></svg>",
        '<div role="img">+</div>',
    ],
)
def test_a_planted_image_that_says_nothing_is_seen(browser: Any, tmp_path: Path, body: str) -> None:
    gallery.opened(browser, _planted(tmp_path, body))
    assert len(gallery.silent_images(browser)) == 1


@pytest.mark.parametrize(
    "body",
    [
        f'<img alt="A dot." src="{_GIF}">',
        "<svg><title>A square.</title><rect width=9 height=9 /></svg>",
        '<svg aria-label="A square."><rect width=9 height=9 /></svg>',
        '<svg aria-hidden="true"><rect width=9 height=9 /></svg>',
    ],
)
def test_an_image_with_a_text_passes(browser: Any, tmp_path: Path, body: str) -> None:
    gallery.opened(browser, _planted(tmp_path, body))
    assert gallery.silent_images(browser) == []


def test_a_picture_shows_the_whole_page(browser: Any, tmp_path: Path) -> None:
    gallery.opened(browser, _planted(tmp_path, '<div style="height: 2000px">Long.</div>'), 400)
    gallery.photograph(browser, tmp_path / "page.png")
    header = (tmp_path / "page.png").read_bytes()[16:24]
    width, height = int.from_bytes(header[:4], "big"), int.from_bytes(header[4:], "big")
    assert width == 400
    assert height > 2000
