"""How a figure becomes SVG: for a wide page, for a telephone, and as a file of its own."""

from __future__ import annotations

import html
import io
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

# A rim in the colour of the paper: text that lies on a line or a mark can be read.
_HALO = "paint-order: stroke; stroke: var(--paper); stroke-width: 3px; stroke-linejoin: round;"
# Placeholder colours in matplotlib's output, each for a variable of the style sheet.
INK, OURS, PYTORCH, JAXS, FAINT, SOFT, BAD = (f"#0102{number:02x}" for number in range(3, 10))
_VARIABLES = dict(
    zip(
        (INK, OURS, PYTORCH, JAXS, FAINT, SOFT, BAD),
        ("ink", "ours", "torch", "jax", "line", "soft", "bad"),
        strict=True,
    )
)
LIGHT = {
    "paper": "#fdfcfa",
    "ink": "#22262b",
    "soft": "#5b6169",
    "line": "#d9d6cf",
    "panel": "#f4f1eb",
    "ours": "#0b6e69",
    "torch": "#b4501e",
    "jax": "#5b52a8",
    "bad": "#a32d2d",
}
DARK = {
    "paper": "#15181b",
    "ink": "#e3e1dc",
    "soft": "#a3a7ac",
    "line": "#363b41",
    "panel": "#1d2125",
    "ours": "#54c4bb",
    "torch": "#e8935f",
    "jax": "#a79df0",
    "bad": "#f08c84",
}

# Units are CSS pixels: a page is at most 62rem wide, and a telephone's window 360 without its margins. Drawn at
# the size at which they are shown, letters keep their size.
_WIDE, _NARROW = 956, 356
_UNITS = 72  # of an inch, in matplotlib's SVG

_RC = {
    "svg.fonttype": "none",
    "font.size": 13,
    "font.family": "sans-serif",
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": FAINT,
    "axes.labelsize": 13,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "lines.linewidth": 2,
    "lines.markersize": 7,
}


class Picture(NamedTuple):
    """A figure: its file's name, its answer in a sentence, what it shows, and its SVG for two widths."""

    name: str
    title: str
    shows: str
    wide: str
    narrow: str

    @property
    def file(self) -> str:
        """The SVG as a file of its own, in both colour schemes, with its ground."""

        def style(colours: dict[str, str]) -> str:
            return f":root {{ {' '.join(f'--{name}: {colour};' for name, colour in colours.items())} }}"

        dark = f"@media (prefers-color-scheme: dark) {{ {style(DARK)} }}"
        sheet = f"<style>{style(LIGHT)} {dark} text {{ font-family: sans-serif; {_HALO} }}</style>"
        ground = '<rect width="100%" height="100%" style="fill: var(--paper)"/>'
        size = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', self.wide)
        assert size is not None
        head = f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[1]}" height="{size[2]}" '
        return re.sub(r"</title>", rf"</title>{sheet}{ground}", self.wide.replace("<svg ", head, 1), count=1) + "\n"


def picture(
    name: str, title: str, shows: str, draw: Callable[[Figure, bool], None], wide: float, narrow: float
) -> Picture:
    """Return the picture that `draw(figure, narrow)` makes, at these heights."""
    text = f"{shows}. {title}" if title != shows else shows
    return Picture(
        name,
        title,
        shows,
        _svg(f"{name}-wide", text, lambda figure: draw(figure, False), (_WIDE, wide)),
        _svg(f"{name}-narrow", text, lambda figure: draw(figure, True), (_NARROW, narrow)),
    )


def _svg(name: str, text: str, draw: Callable[[Figure], None], size: tuple[float, float]) -> str:
    """Return the figure as an SVG element without a size, with unique identifiers and a text for screen readers."""
    narrow = {"font.size": 11.5, "axes.labelsize": 11.5} if size[0] == _NARROW else {}
    with mpl.rc_context({**_RC, **narrow, "svg.hashsalt": name}):
        figure = Figure(figsize=(size[0] / _UNITS, size[1] / _UNITS), layout="constrained")
        # A tick's label at the end of an axis reaches beyond it by half its length: of "100,000" some 24 of 356 units.
        if narrow:
            figure.get_layout_engine().set(rect=(0, 0, 0.93, 1))  # type: ignore[union-attr, call-arg]
        draw(figure)
        output = io.StringIO()
        figure.savefig(
            output, format="svg", transparent=True, metadata=dict.fromkeys(("Date", "Creator", "Format", "Type"))
        )
    drawn = output.getvalue()
    drawn = drawn[drawn.index("<svg") :].strip()
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    title = html.escape(text, quote=False).replace("\\", r"\\")
    drawn = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', rf'<svg \1 role="img"><title>{title}</title>', drawn, count=1)
    used = set(re.findall(r'(?:url\(#|href="#)([^)"]+)', drawn))
    drawn = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", drawn)
    for stand_in, variable in _VARIABLES.items():
        drawn = drawn.replace(stand_in, f"var(--{variable})")
    return re.sub(r"\s*\n\s*", "\n", drawn.replace("xlink:href", "href"))


PLAIN = FuncFormatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")


def log_axis(axes: Any, which: str, label: str) -> None:
    """Make an axis logarithmic, with plain numbers. Call it after everything is drawn."""
    axis = getattr(axes, f"{which}axis")
    limits = None if getattr(axes, f"get_autoscale{which}_on")() else axis.get_view_interval()
    axes.set(**{f"{which}scale": "log", f"{which}label": label})
    if limits is not None:
        axes.set(**{f"{which}lim": limits})
    low, high = axis.get_view_interval()
    if high / low < 1000:  # powers of ten alone would give three ticks at most
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(PLAIN)
    axis.set_minor_formatter(NullFormatter())


def ratio_axis(axes: Any, low: float, high: float, narrow: bool) -> None:
    """Make the x axis one of ratios: shaded and labelled where we are faster, with ticks that are read as words."""
    axes.set(xscale="log", xlim=(low, high))
    axes.axvspan(low, 1, color=OURS, alpha=0.09, linewidth=0)
    axes.axvline(1, color=OURS, linewidth=2)
    steps = [2.0**power for power in range(-10, 11)]
    if high / low > (64 if narrow else 1024):
        steps = [4.0**power for power in range(-5, 6)]
    ticks = [step for step in steps if low <= step <= high]
    axes.set_xticks(ticks, [f"{max(step, 1 / step):g}×" if step != 1 else "1" for step in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.tick_params(axis="x", top=True, labeltop=True, length=0)
    axes.tick_params(axis="y", pad=7)
    axes.set_xlabel(
        "times as fast as they  |  times as long as they"
        if narrow
        else "how many times as fast as they, or as long as they, for the same work"
    )
    for away, text, colour, side in ((-8, "← we are faster", OURS, "right"), (8, "we are slower →", BAD, "left")):
        axes.annotate(
            text,
            (1, 1),
            (away, 22),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            ha=side,
            color=colour,
            weight="bold",
            annotation_clip=False,
        )
