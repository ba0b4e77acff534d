"""One HTML page that needs no other file: of a certificate, or of a run with all its rows."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from verify.diagnosis.curve import Curve
from verify.diagnosis.gradients import Compared
from verify.diagnosis.report import causes_of, promise
from verify.pictures.arrangement import MOST_CELLS, Plane, plane_of
from verify.pictures.curve import curve_svg, curve_text
from verify.pictures.heat_map import DARK, LIGHT, STYLE, Map, maps, named_parts

if TYPE_CHECKING:
    from verify.checker.certificate import ArgumentResult, Certificate

# Cells of all maps of a page together. A cell takes some 100 bytes, and 211 at worst: a page stays below 1 MB.
_MOST_CELLS = 4000
# The order of gradients on a page.
_VERDICTS = ("FAIL", "INCONCLUSIVE", "PASS")
# A choice: with fewer cells a map shows nothing, so a page has no more maps than this leaves.
_FEWEST_CELLS = 64


class Gradient(NamedTuple):
    """What a page shows of one gradient. `maps` are SVG."""

    name: str
    shape: str
    verdict: str
    sentence: str
    maps: tuple[str, ...] = ()
    about: str = ""
    curve: str = ""
    curve_text: str = ""


class Section(NamedTuple):
    """What a page shows of one certificate, or of a message without one."""

    title: str
    verdict: str
    headline: str
    causes: tuple[str, ...]
    gradients: tuple[Gradient, ...]
    where: str
    lines: str
    uncovered: tuple[str, ...]
    missed: str
    facts: tuple[tuple[str, str], ...]
    text: str


class Table(NamedTuple):
    """The rows of a run: headings, and cells. The first is the verdict. The second is a link, if there is one."""

    headings: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]
    links: Sequence[str] = ()


def certificate_page(certificate: Certificate, title: str = "") -> str:
    """The page of one certificate."""
    section = section_of(certificate, title)
    return rendered(title or f"gradcert: {certificate.verdict}", certificate.verdict, certificate.headline, [section])


def result_page(result: Any, title: str) -> str:
    """The page of a certificate, or of a report of `check_layer`."""
    if hasattr(result, "arguments"):
        return certificate_page(result, title)
    section = message_section(title, result.verdict, f"{result.headline}\n{result}")
    return rendered(title, result.verdict, result.headline, [section])


def index_page(
    headings: tuple[str, ...], lines: Sequence[tuple[str, ...]], links: Sequence[str], facts: Sequence[str]
) -> str:
    """The page of all checks of a run of pytest: a row for each gradient, with its link. The verdict is column four."""
    verdicts = [line[3] for line in lines]
    verdict = next((each for each in _VERDICTS if each in verdicts), "NOTHING CHECKED")
    counts = ", ".join(f"{verdicts.count(each)} {each}" for each in dict.fromkeys(verdicts))
    rows = [(line[3], *line[:3], *line[4:]) for line in lines]
    table = Table((headings[3], *headings[:3], *headings[4:]), rows, links)
    return rendered(
        "gradcert: gradients checked by pytest", verdict, counts or "no test checked a gradient", [], table, facts
    )


def section_of(certificate: Certificate, title: str = "", cells: int = _MOST_CELLS, text: str = "") -> Section:
    """What is shown of a certificate. All its maps have at most `cells` cells."""
    text = text or str(certificate)
    verdict, facts = certificate.verdict, [("oracle", f"{certificate.oracle} ({certificate.structure})")]
    facts += [("seed", str(certificate.seed))]
    facts += [("calls", f"{certificate.forward_calls} forwards, {certificate.backward_calls} backwards")]
    where = certificate.shown[0].where if certificate.shown else ""
    return Section(
        title,
        verdict,
        certificate.headline.removeprefix(f"{verdict}: "),
        tuple(line.strip() for line in causes_of(certificate)),
        tuple(_gradients(certificate, cells)),
        where,
        certificate.reproduction,
        tuple(str(each) for each in certificate.uncovered),
        _missed(certificate),
        tuple(facts),
        text,
    )


def shared(sections: int) -> int:
    """How many cells the maps of each section may have, where a page has several."""
    return max(_FEWEST_CELLS, _MOST_CELLS // max(1, sections))


def message_section(title: str, verdict: str, message: str) -> Section:
    """What is shown of a result without a certificate, such as an exception."""
    headline, _, rest = message.partition("\n")
    return Section(title, verdict, headline.removeprefix(f"{verdict}: "), (), (), "", "", (), "", (), rest and message)


def _missed(certificate: Certificate) -> str:
    """What the check would have missed."""
    if certificate.verdict == "PASS":
        floor = certificate.detection_floor
        if certificate.miss_probability is None and floor is not None:
            return f"An error of up to {floor:.1e} of a gradient's largest entry may pass."
        return f"{promise(certificate)[:1].upper()}{promise(certificate)[1:]}."
    if certificate.verdict == "FAIL":
        return "A FAIL gives no bound for the other gradients. Mend the wrong one, and check again."
    return "The check could not decide, so it promises nothing."


def _gradients(certificate: Certificate, cells: int) -> Iterable[Gradient]:
    found = certificate.gradients
    order = sorted(found, key=lambda name: not _is_wrong(found[name]))
    drawn = set(order[: max(1, cells // _FEWEST_CELLS)])
    most = min(MOST_CELLS, cells // max(1, len(drawn)))
    for result in sorted(certificate.arguments, key=lambda each: _VERDICTS.index(each.verdict)):
        compared = found.get(result.name)
        yield _gradient(result, compared, certificate.curves.get(result.name), most if result.name in drawn else 0)


def _is_wrong(compared: Compared) -> bool:
    return bool(np.ma.filled(compared.wrong, False).any())


def _gradient(result: ArgumentResult, compared: Compared | None, curve: Curve | None, most: int) -> Gradient:
    sentence = "; ".join(filter(None, (result.note, *result.second_opinions)))
    drawn_curve, said = (curve_svg(curve), curve_text(curve)) if curve else ("", "")
    drawn: list[str] = []
    about = ""
    if compared is not None and not compared.claimed.size:
        about = "The array has no entries."
    elif compared is not None and most:
        for name, part in named_parts(result.name, compared):
            plane = plane_of(part, most)
            drawn += [_svg(each, f"{name}, {title}") for title, each in maps(part, plane)]
            about = _about(result, part, plane)
    elif compared is not None:
        about = "No map: the page would be too large. certificate.gradients has the numbers."
    return Gradient(
        f"d{result.name}", _shape(result.shape), result.verdict, sentence, tuple(drawn), about, drawn_curve, said
    )


def _shape(shape: tuple[int, ...]) -> str:
    return " × ".join(map(str, shape)) or "scalar"


def _svg(drawn: Map, label: str) -> str:
    size = f'viewBox="0 0 {drawn.width:g} {drawn.height:g}" style="max-width: {drawn.width:g}px"'
    return f'<svg {size} class="map" role="img"><title>{escape(label)}</title>{drawn.elements}</svg>'


def _about(result: ArgumentResult, compared: Compared, plane: Plane) -> str:
    """Sentences below the maps: at which arrays, how many are wrong there, and what a cell stands for."""
    wrong = int(np.ma.filled(compared.wrong, False).sum())
    said = [f"The numbers are computed {compared.where}, for a dy of small numbers."]
    if wrong:
        looked_at = int(np.ma.count(compared.wrong))
        size = compared.claimed.size
        of = f"{size:,} entries" if looked_at == size else f"the {looked_at:,} entries looked at, of {size:,}"
        said.append(f"{wrong:,} of {of} {'is' if wrong == 1 else 'are'} wrong at these numbers.")
    if not np.isfinite(compared.claimed).all():
        said.append("A cross marks NaN or an infinity.")
    if np.ma.getmaskarray(compared.expected).any():
        said.append("A stroke marks an entry that was not looked at.")
    if plane.thinned:
        blocks = " × ".join(map(str, plane.blocks))
        said.append(
            f"Each cell stands for a block of {blocks} entries. It shows the entry that is furthest off. Where none is "
            "known to be wrong, it shows the largest. A block with a wrong entry is outlined."
        )
    return " ".join([*said, *_axes(len(result.shape), plane)])


def _axes(count: int, plane: Plane) -> Iterable[str]:
    if count == 1 and plane.size[0] > 1:
        yield "The entries run from left to right, line by line."
    if plane.tiles != (1, 1):
        label = "Its label is the index along the other axes." if plane.labels else "Tiles run line by line."
        yield f"Each tile shows the last two axes. {label}"
    if len(plane.blocks) < count:
        yield "The last two axes have one entry each and are not shown."


def rendered(
    title: str,
    verdict: str,
    headline: str,
    sections: Sequence[Section],
    table: Table | None = None,
    facts: Sequence[str] = (),
) -> str:
    """The page. Everything that is not SVG of this package is escaped."""
    template = _environment().get_template("page.html.j2")
    text: str = template.render(
        title=title,
        verdict=verdict,
        headline=headline.removeprefix(f"{verdict}: "),
        sections=sections,
        table=table,
        facts=facts,
        light=LIGHT,
        dark=DARK,
        style=STYLE,
    )
    return text


def _environment() -> Any:
    """Jinja2's environment; without the package an error that names the extra."""
    jinja2 = needed("jinja2", "a page")
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def needed(package: str, what: str) -> Any:
    """A package of the extra `report`. ModuleNotFoundError says how to install it."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] != package.partition(".")[0]:
            raise
        text = f'{what} needs {package.partition(".")[0]}, which is not installed: pip install "gradcert[report]"'
        raise ModuleNotFoundError(text, name=error.name) from None


def notebook_cell(certificate: Certificate) -> str:
    """What a notebook shows: the headline, the maps of what is wrong, and the text. It needs no other package."""
    section = section_of(certificate)
    drawn = "".join(
        f"<p><b>{escape(each.name)}</b> {escape(each.shape)}. {escape(each.about)}</p>"
        f'<div class="maps">{"".join(each.maps)}</div>'
        for each in section.gradients
        if each.verdict == "FAIL" and each.maps
    )
    style = (
        f".gradcert {{ {LIGHT}; background: var(--paper); color: var(--ink); padding: .6rem 1rem; max-width: 62rem }} "
        f"@media (prefers-color-scheme: dark) {{ .gradcert {{ {DARK} }} }} "
        ".gradcert .maps { display: flex; flex-wrap: wrap; gap: 1rem 2rem } .gradcert svg { flex: 1 1 14rem } "
        f".gradcert pre {{ overflow-x: auto; white-space: pre; color: inherit; background: none }} {STYLE}"
    )
    text = f"<details><summary>all of it</summary><pre>{escape(section.text)}</pre></details>"
    headline = f"<p><b>{escape(certificate.verdict)}</b>: {escape(section.headline)}</p>"
    return f'<div class="gradcert"><style>{style}</style>{headline}{drawn}{text}</div>'
