"""A few lines that show a wrong gradient without the checker: at most ten, and they have been run.

The arrays are small numbers from a seeded generator, where the same entry is wrong there, too; else, if
they are few, those at which it was found. What cannot be imported by its name stands as `...  # yours`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import PathFinder
from typing import Any, NamedTuple

import numpy as np

from verify.checker.certificate import Worst
from verify.checker.exact import Differences
from verify.checker.extrapolation import Extrapolated
from verify.checker.point import ExactPoint, Findings, Point
from verify.checker.references.at_ties import AtKinks
from verify.checker.references.complex_step import ComplexStep

YOURS = "...  # yours"
_SEEDS = range(8)
_MOST_LITERALS = 96
# What a plain difference of rounded numbers shows for sure, relative to both values.
_PLAIN = 1e-4
# A complex step is believed if a central difference of this step agrees to a thousandth, which its own
# truncation, of order 1e-10, and rounding, of 1e-11 of y, leave far behind.
_PLAIN_STEP, _AGREES = 1e-5, 1e-3


class _Difference(NamedTuple):
    """How the lines differentiate: what is added to the entry, and the slope of y it gives."""

    moved: str
    slope: str


_BY_ONE = _Difference("{as_array}(a + step) if i == {k} else a", "forward(*moved, **options)[0] - y")
_BEHIND = _Difference("{as_array}(a - step * {h}) if i == {k} else a", "(y - forward(*moved, **options)[0]) / {h}")
_AHEAD = _Difference("{as_array}(a + step * {h}) if i == {k} else a", "(forward(*moved, **options)[0] - y) / {h}")
_COMPLEX = _Difference(
    "{as_array}(a + step * {h}j) if i == {k} else a + 0j if i in {floating} else a",
    "forward(*moved, **options)[0].imag / {h}",
)
_CENTRAL = _Difference(
    "({as_array}(a + step * {h}), {as_array}(a - step * {h})) if i == {k} else (a, a)",
    "(forward(*(a for a, _ in moved), **options)[0] - forward(*(b for _, b in moved), **options)[0]) / (2 * {h})",
)


def reproduce(findings: Findings, worst: Worst | None) -> str:
    """The lines; empty where none so short show what is wrong."""
    if worst is None:
        return ""
    point = findings.points[worst.argument]
    for draw, difference, h, enough in _ways(point, worst):
        text = _text(point, worst, draw, difference, h)
        with np.errstate(all="ignore"):
            values = _run(text, point)
        if values is None or not _differ(*values, enough):
            continue
        with np.errstate(all="ignore"):
            confirmed = _confirmed(point, worst, draw, difference, h, values)
        if confirmed:
            return f"{text}  # {values[0]!r}, where differences say {values[1]!r}"
    return ""


def _ways(point: Point, worst: Worst) -> Iterator[tuple[str | int, _Difference, float, float]]:
    """Seeds, then literal arrays; each with a difference that is exact there, or good enough."""
    plain, h, enough = _plain(point, worst)
    easy = _BY_ONE if isinstance(point, Differences) else plain
    for seed in _SEEDS:
        yield seed, easy, h, 0.0 if isinstance(point, ExactPoint) else _PLAIN
    if sum(np.size(a) for a in point.arrays if a is not None) + point.dy.size > _MOST_LITERALS:
        return
    if isinstance(point, AtKinks):
        for difference in (_COMPLEX, _AHEAD, _BEHIND):
            yield "literal", difference, 1.0 if difference is _COMPLEX else point.step, 0.0
    else:
        yield "literal", plain, h, enough


def _confirmed(
    point: Point, worst: Worst, draw: str | int, difference: _Difference, h: float, shown: tuple[float, float]
) -> bool:
    """Whether plain differences at the same arrays say so, too: a complex step through a sign or an abs is no proof.

    The claim must lie outside both one-sided differences, by more than they are known to, or at kinks be none of the
    branch that the oracle found the forward to take. To a complex step a central one must agree to a thousandth.
    """

    def by(way: _Difference, step: float) -> float:
        values = _run(_text(point, worst, draw, way, step), point)
        return math.nan if values is None else values[1]

    claimed, true = shown
    if isinstance(point, AtKinks) and difference is _COMPLEX:
        return true == worst.numeric
    if isinstance(point, Differences):
        drawn = isinstance(draw, int)
        ends = sorted(by(way, 1.0 if drawn else point.step) for way in (_BEHIND, _AHEAD))
        room = _PLAIN * max(map(abs, ends))
        apart = not ends[0] - room <= claimed <= ends[1] + room
        # Of arrays that are drawn, those at no kink: there every right backward says the same.
        return all(map(math.isfinite, ends)) and (ends[1] - ends[0] <= room if drawn else apart)
    if difference is _COMPLEX:
        central = by(_CENTRAL, _PLAIN_STEP)
        return abs(central - true) <= _AGREES * abs(true) or abs(central - true) <= _AGREES * abs(claimed - true)
    return True


def _plain(point: Point, worst: Worst) -> tuple[_Difference, float, float]:
    """The difference the oracle's own is nearest to, its step, and by how much two values must differ, relatively."""
    if isinstance(point, ComplexStep):
        scale = max(abs(worst.analytic), abs(worst.numeric))
        return _COMPLEX, 1e-60, worst.tolerance / scale if scale else 0.0
    if isinstance(point, Extrapolated):
        return _CENTRAL, 1e-5, _PLAIN
    return (_AHEAD, point.step, 0.0) if isinstance(point, Differences) else (_COMPLEX, 1.0, 0.0)


def _text(point: Point, worst: Worst, draw: str | int, difference: _Difference, h: float) -> str:
    k, subject = worst.argument, point.subject
    entry = f"[{', '.join(map(str, worst.index)) or '()'}]"
    floating = [i for i, a in enumerate(subject.arrays) if i in subject.differentiable and a is not None]
    scalar = not all(np.ndim(subject.arrays[i]) for i in floating)  # a sum of scalars is no array
    values = {"k": k, "h": repr(h), "floating": floating, "as_array": "np.asarray" if scalar else ""}
    place = _place_of_gradient(point, k)
    lines = _functions(subject._forward, subject._backward)
    if isinstance(draw, int):
        lines.append(f"rng = np.random.default_rng({draw})")
    arrays = ", ".join(_array(point, i, draw) for i in range(len(subject.arrays)))
    lines.append(f"arrays, options = [{arrays}], {_options(subject.options)}")
    if YOURS in lines[-1]:
        lines[-1] = f"arrays = [{arrays}]; options = {YOURS}"
    lines += [
        "y, cache = forward(*arrays, **options)",
        "dy = " + ("rng.integers(-4, 5, y.shape).astype(y.dtype)" if isinstance(draw, int) else _literal(point.dy)),
        f"step = np.zeros_like(arrays[{k}]); step{entry} = 1",
        f"moved = [{difference.moved.format(**values)} for i, a in enumerate(arrays)]",
        f"print(backward(dy, cache)[{place}]{entry}, (dy * ({difference.slope.format(**values)})).sum())",
    ]
    return "\n".join(lines)


def _array(point: Point, i: int, draw: str | int) -> str:
    """The expression that makes array i."""
    array: Any = point.arrays[i]
    if not isinstance(array, np.ndarray):
        return repr(array)
    if not isinstance(draw, int) or (i not in point.subject.wrt and array.size <= _MOST_LITERALS):
        return _literal(array)
    if array.dtype.kind in "iub":  # labels, say
        return f"rng.integers({array.min()}, {array.max()} + 1, {array.shape}).astype({array.dtype.name!r})"
    if isinstance(point, AtKinks):  # no ties, and no zeros, within a step of 1
        middle = 2 * array.size - 2 + array.size % 2
        drawn = f"(rng.choice([-1, 1]) * (4 * rng.permutation({array.size}).reshape({array.shape}) - {middle}))"
    elif isinstance(point, ExactPoint):
        drawn = f"rng.integers(-4, 5, {array.shape})"
    else:
        drawn = f"rng.normal(size={array.shape})"
    return f"{drawn}.astype({array.dtype.name!r})"


def _literal(array: Any) -> str:
    kind = "" if array.dtype in (np.float64, np.int64) else f", {array.dtype.name!r}"
    return f"np.array({array.tolist()!r}{kind})" if array.size else f"np.zeros({array.shape}, {array.dtype.name!r})"


def _options(options: dict[str, Any]) -> str:
    text = repr(options)
    try:
        same = eval(text, {"__builtins__": {}}) == options
    except Exception:
        same = False
    return text if same else YOURS


def _functions(forward: Callable[..., Any], backward: Callable[..., Any]) -> list[str]:
    """How to come by the two: as an adapter makes them, by name from their module, or yours."""
    made = getattr(forward, "made", "")
    if made:
        text = _importable(forward.layer)  # type: ignore[attr-defined]
        layer = f"layer = {YOURS}" if text is None else text.format(name="layer")
        return ["import numpy as np; from verify import adapters", layer, f"forward, backward = {made}"]
    found = {name: _importable(each) for name, each in (("forward", forward), ("backward", backward))}
    yours = [name for name, text in found.items() if text is None]
    lines = [text.format(name=name) for name, text in found.items() if text is not None]
    return ["import numpy as np", *lines, *([f"{', '.join(yours)} = {YOURS}"] if yours else [])]


def _importable(function: Callable[..., Any]) -> str | None:
    """The line that imports it as {name}; None for what a name in a module does not lead to."""
    module, path = getattr(function, "__module__", None), getattr(function, "__qualname__", "")
    if module is None or module == "__main__" or module not in sys.modules:
        return None
    if not _on_path(module):  # of a file that was loaded under a name of its own
        return None
    found: Any = sys.modules[module]
    for part in path.split("."):
        found = getattr(found, part, None)
    if found is not function or not path:
        return None
    first, _, rest = path.partition(".")
    return f"from {module} import {first} as {{name}}" + (f"; {{name}} = {{name}}.{rest}" if rest else "")


def _on_path(module: str) -> bool:
    """Whether another process finds its package: built in, or along sys.path."""
    top = module.partition(".")[0]
    return top in sys.builtin_module_names or PathFinder.find_spec(top) is not None


def _place_of_gradient(point: Point, k: int) -> int:
    """Where in the backward's tuple the gradient is: integer arrays have a place there or not."""
    subject = point.subject
    place = subject.differentiable.index(k)
    if place == k:
        return k
    _, cache = subject.value_and_cache(point.arrays)
    returned = subject._backward(point.dy.copy(), cache)
    return k if len(returned) == len(subject.arrays) else place


def _run(text: str, point: Point) -> tuple[float, float] | None:
    """The two numbers the lines print; None where they raise."""
    printed: list[Any] = []
    names = {
        "forward": point.subject._forward,
        "backward": point.subject._backward,
        "layer": getattr(point.subject._forward, "layer", None),
        "options": point.subject.options,
        "print": lambda *values: printed.extend(values),
    }
    try:
        exec("\n".join(runnable(text)), names)
        return float(printed[0]), float(printed[1])
    except Exception:  # the layer at arrays it was not made for
        return None


def runnable(text: str) -> Iterator[str]:
    """The lines without what stands there as yours."""
    for line in text.splitlines():
        if not line.endswith(YOURS):
            yield line
        elif ";" in line:
            yield line.rpartition(";")[0]


def _differ(claimed: float, true: float, enough: float) -> bool:
    if not math.isfinite(true):
        return False
    return not abs(claimed - true) <= enough * max(abs(claimed), abs(true))
