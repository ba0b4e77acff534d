"""The built handbook: every link inside leads somewhere, nothing is loaded from elsewhere, every image has a text.

GRADCERT_HANDBOOK names the folder that Sphinx wrote, as `tox -e docs` does. Without it only small pages are read.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from verify.battery.checks import CHECKS
from verify.diagnosis.causes import CauseCode
from verify.layers import LAYERS

FOLDER = os.environ.get("GRADCERT_HANDBOOK")
BUILT = Path(FOLDER or "nowhere")
built = pytest.mark.skipif(FOLDER is None, reason="GRADCERT_HANDBOOK names no built handbook: tox -e docs builds it")

# Attributes that make a browser load something when the page is opened.
LOADS = {("script", "src"), ("img", "src"), ("iframe", "src"), ("source", "src"), ("video", "src"), ("object", "data")}
# What a `link` may say without anything being loaded.
ONLY_SAID = {"next", "prev", "index", "search", "canonical", "author", "genindex", "up", "top", "help", "license"}
LARGEST_ZIP = 5_000_000  # a choice: it is to be sent by mail


class Page(HTMLParser):
    """The ids of a page, its links, what it loads, and its images without a text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.silent: list[str] = []
        self._opened = ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attributes}
        self.ids.update(given[name] for name in ("id", "name") if name in given)
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and not set(given.get("rel", "").split()) <= ONLY_SAID:
            self.loads.append(given.get("href", ""))
        self.loads += [given[name] for of, name in LOADS if of == tag and name in given]
        self.loads += re.findall(r"url\(['\"]?([^'\")]+)", given.get("style", ""))
        hidden = given.get("aria-hidden") == "true"
        if tag == "img" and not given.get("alt") and not hidden:
            self.silent.append(given.get("src", ""))
        if tag == "title" and self._opened == "svg" and self.silent[-1:] == ["svg"]:
            self.silent.pop()  # the first element of an SVG may be its text
        if tag == "svg" and not given.get("aria-label") and not hidden:
            self.silent.append("svg")
        self._opened = tag


def faults(folder: Path) -> Iterator[str]:
    """Yield what is wrong with the pages of a folder, and with the style sheets."""
    found = (path for path in sorted(folder.rglob("*.html")) if "_static" not in path.parts)  # the theme's templates
    pages = {path.resolve(): Page(path) for path in found}
    for path, page in pages.items():
        where = path.relative_to(folder.resolve())
        yield from (f"{where}: an image without a text: {each}" for each in page.silent)
        yield from (f"{where}: loads {each}" for each in page.loads if urlsplit(each).netloc)
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{where}: {link} leads nowhere"
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                yield f"{where}: {link} has no such anchor"
    for sheet in sorted(folder.rglob("*.css")):
        for address in re.findall(r"(?:url\(|@import )\s*['\"]?(https?:|//)", sheet.read_text(encoding="utf-8")):
            yield f"{sheet.name}: loads {address}"


@pytest.mark.parametrize(
    ("html", "fault"),
    [
        ('<a href="b.html">b</a>', "b.html leads nowhere"),
        ('<a href="#x">x</a>', "#x has no such anchor"),
        ('<a href="a.html#x">x</a>', "a.html#x has no such anchor"),
        ('<script src="https://cdn.example/x.js"></script>', "loads https://cdn.example/x.js"),
        ('<script src="//cdn.example/x.js"></script>', "loads //cdn.example/x.js"),
        ('<script src="missing.js"></script>', "missing.js leads nowhere"),
        ('<link rel="stylesheet" href="https://fonts.example/x.css">', "loads https://fonts.example/x.css"),
        ('<link rel="preconnect" href="https://fonts.example">', "loads https://fonts.example"),
        ('<img src="https://img.example/x.png" alt="x">', "loads https://img.example/x.png"),
        ('<p style="background: url(https://img.example/x.png)">', "loads https://img.example/x.png"),
        ('<img src="a.html">', "an image without a text: a.html"),
        ('<img src="a.html" alt="">', "an image without a text: a.html"),
        ("<svg></svg>", "an image without a text: svg"),
        ("<svg><g></g><title>x</title></svg>", "an image without a text: svg"),
        ("<svg><title>x</title><g></g></svg>", ""),
        ('<p id="x"><a href="#x">x</a><a href="https://elsewhere.example">y</a><svg aria-label="z"></svg>', ""),
    ],
)
def test_a_faulty_page_is_found(html: str, fault: str, tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(html, encoding="utf-8")
    assert list(faults(tmp_path)) == ([f"a.html: {fault}"] if fault else [])


def test_a_style_sheet_that_loads_is_found(tmp_path: Path) -> None:
    (tmp_path / "a.css").write_text("@font-face { src: url('https://fonts.example/x.woff2') }", encoding="utf-8")
    assert list(faults(tmp_path)) == ["a.css: loads https:"]


@built
def test_the_built_handbook_has_no_fault() -> None:
    assert (BUILT / "index.html").is_file(), f"{BUILT}: no handbook"
    assert list(faults(BUILT)) == []


@built
def test_every_layer_cause_and_check_can_be_linked_to() -> None:
    assert {path.stem for path in (BUILT / "layers").glob("*.html")} == {*LAYERS, "index"}
    assert {cause.code for cause in CauseCode} <= Page(BUILT / "causes.html").ids
    assert {f"check-{check}" for check in CHECKS} <= Page(BUILT / "reference" / "battery.html").ids


@built
def test_every_formula_is_mathml() -> None:
    """What a converter does not know stays in the page with its backslash."""
    for name in LAYERS:
        text = (BUILT / "layers" / f"{name}.html").read_text(encoding="utf-8")
        formulas = re.findall(r"<math.*?</math>", text, re.DOTALL)
        assert formulas, name
        assert not [each for each in formulas if "\\" in each], name


@built
def test_the_zip_has_every_page_and_is_small() -> None:
    packed = BUILT.with_suffix(".zip")
    with zipfile.ZipFile(packed) as archive:
        names = set(archive.namelist())
    assert {f"{BUILT.name}/{path.relative_to(BUILT).as_posix()}" for path in BUILT.rglob("*.html")} <= names
    assert not [name for name in names if name.endswith(".map") or "doctrees" in name]
    assert packed.stat().st_size <= LARGEST_ZIP
