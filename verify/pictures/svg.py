"""The heat maps of a certificate as one SVG file, for documents: it suits light and dark pages."""

from __future__ import annotations

from collections.abc import Collection
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from verify.diagnosis.gradients import Compared
from verify.pictures.arrangement import plane_of
from verify.pictures.heat_map import DARK, LIGHT, STYLE, maps, named_parts

if TYPE_CHECKING:
    from verify.checker.certificate import Certificate

_EDGE, _BETWEEN = 14, 30


def svg(certificate: Certificate, names: Collection[str] = ()) -> str:
    """The maps of these gradients, by the names of their arguments; without names, of all that are wrong.

    Raises ValueError if none of them has a map.
    """
    gradients = certificate.gradients
    unknown = [name for name in names if name not in gradients]
    wrong = [name for name, each in gradients.items() if np.ma.filled(each.wrong, False).any()]
    chosen = list(names) or wrong
    if unknown or not chosen:
        text = f"no map of {', '.join(map(repr, unknown)) or 'a wrong gradient'}: the certificate has {list(gradients)}"
        raise ValueError(text)
    rows, top, width = [], 0.0, 0.0
    for name in chosen:
        for title, part in named_parts(name, gradients[name]):
            x, height = 0.0, 0.0
            for what, drawn in maps(part, plane_of(part)):
                elements = drawn.elements.replace(f">{what}<", f">{escape(title)}, {what}<", 1)
                rows.append(f'<g transform="translate({x:g} {top:g})">{elements}</g>')
                x, height = x + drawn.width + _BETWEEN, max(height, drawn.height)
            width, top = max(width, x - _BETWEEN), top + height + 6
    size = f"{width + 2 * _EDGE:.0f} {top + 2 * _EDGE:.0f}"
    about = "; ".join(described(name, gradients[name]) for name in chosen)
    style = f":root {{ {LIGHT} }} @media (prefers-color-scheme: dark) {{ :root {{ {DARK} }} }} {STYLE}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" width="{size.split()[0]}" role="img" '
        f'font-family="system-ui, sans-serif">\n<title>{escape(about)}</title>\n<style>{style}</style>\n'
        f'<rect width="100%" height="100%" rx="8" style="fill: var(--paper)"/>\n'
        f'<g class="map" transform="translate({_EDGE} {_EDGE})">' + "\n".join(rows) + "</g>\n</svg>\n"
    )


def described(name: str, compared: Compared) -> str:
    """What the maps of a gradient show, in one sentence for those who do not see them."""
    wrong, looked_at = int(np.ma.filled(compared.wrong, False).sum()), int(np.ma.count(compared.expected))
    of = f"{compared.claimed.size}" if looked_at == compared.claimed.size else f"{looked_at} looked at"
    what = f"d{name} {compared.claimed.shape} as claimed, as expected, and the difference"
    return f"{what}: {wrong} of {of} entries are wrong"
