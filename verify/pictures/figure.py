"""A matplotlib Figure of a certificate, for notebooks and papers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from verify.diagnosis.gradients import Compared
from verify.pictures import curve as curves
from verify.pictures.arrangement import Plane, plane_of, values_at
from verify.pictures.heat_map import named_parts
from verify.pictures.page import needed

if TYPE_CHECKING:
    from verify.checker.certificate import Certificate

# Inches of one map. The strongest colours are those of the page.
_SIDE = 3.2
_MINUS, _ZERO, _PLUS, _UNKNOWN = "#ee8a3c", "#f7f7f5", "#4f9fdc", "#c9c6c0"


def figure(certificate: Certificate) -> Any:
    """A row for each gradient: as claimed, as expected, and the difference; then the V-curves of differences."""
    figures = needed("matplotlib.figure", "certificate.plot()")
    parts = [part for name, each in certificate.gradients.items() for part in named_parts(name, each)]
    rows = [(name, compared) for name, compared in parts if compared.claimed.size]
    curved = {name: each for name, each in certificate.curves.items() if curves.drawable(each)}
    height = _SIDE * max(1, len(rows) + len(curved))
    drawn = figures.Figure(figsize=(3 * _SIDE, height), layout="constrained")
    drawn.suptitle(certificate.headline, wrap=True, fontsize="medium")
    if rows or curved:
        grid = drawn.subplots(len(rows) + len(curved), 3, squeeze=False)
        for axes, (name, compared) in zip(grid, rows, strict=False):
            _maps(axes, name, compared)
        for axes, (name, curve) in zip(grid[len(rows) :], curved.items(), strict=True):
            _curve(axes, f"d{name}", curve)
    return drawn


def _maps(axes: Any, name: str, compared: Compared) -> None:
    plane = plane_of(compared)
    claimed, expected = values_at(compared.claimed, plane), values_at(compared.expected, plane)
    with np.errstate(invalid="ignore"):
        columns = {"claimed": claimed, "expected": expected, "difference": claimed - expected}
    together = np.concatenate([_finite(claimed), _finite(expected)])
    for each, (title, values) in zip(axes, columns.items(), strict=True):
        scale = np.abs(_finite(values) if title == "difference" else together).max(initial=0.0) or 1.0
        shown = each.imshow(_grid(plane, values), cmap=_colours(), vmin=-scale, vmax=scale, interpolation="nearest")
        each.set(title=f"{name}, {title}", xticks=[], yticks=[])
        each.figure.colorbar(shown, ax=each, shrink=0.8)
        if title != "expected" and plane.wrong.any():
            marked = np.nan_to_num(_grid(plane, plane.wrong.astype(float)))
            fine = np.kron(marked, np.ones((9, 9)))  # a contour then follows the borders of cells
            each.contour(fine, [0.5], colors="black", linewidths=1.2, extent=_extent(marked))


def _finite(values: Any) -> Any:
    known = np.ma.compressed(values)
    return known[np.isfinite(known)]


def _colours() -> Any:
    colours = needed("matplotlib.colors", "certificate.plot()")
    return colours.LinearSegmentedColormap.from_list("gradcert", [_MINUS, _ZERO, _PLUS]).with_extremes(bad=_UNKNOWN)


def _extent(marked: Any) -> tuple[float, float, float, float]:
    """Cells of `imshow` have their middles at whole numbers, and its rows go down."""
    rows, columns = marked.shape
    return -0.5, columns - 0.5, -0.5, rows - 0.5


def _grid(plane: Plane, values: Any) -> Any:
    """The cells as one array of two axes, an empty line between tiles; NaN where there is no cell."""
    (rows, columns), (height, width) = plane.tiles, plane.size
    grid = np.full((max(1, rows * (height + 1) - 1), max(1, columns * (width + 1) - 1)), np.nan)
    tile_row, tile_column, row, column = plane.places.T
    grid[tile_row * (height + 1) + row, tile_column * (width + 1) + column] = np.ma.filled(values, np.nan)
    return grid


def _curve(axes: Any, name: str, curve: Any) -> None:
    for spare in axes[1:]:
        spare.set_axis_off()
    axes[0].loglog(*zip(*curves.points(curve), strict=True), "o-", label="central difference")
    axes[0].axhline(curves.claim_error(curve), color="black", linestyle="--", label="backward")
    axes[0].set(title=f"{name}, differences", xlabel="step", ylabel="relative error")
    axes[0].legend()
