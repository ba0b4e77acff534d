"""A few lines that show a wrong gradient without the checker: at most ten, and they have been run.

The arrays are small numbers from a seeded generator, where the same entry is wrong there, too; else, if
they are few, those at which it was found. What cannot be imported by its name stands as `...  # yours`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.machinery import PathFinder
from typing import Any, NamedTuple

import numpy as np

from verify.checker.exact import AHEAD, BEHIND
from verify.checker.judge import Finding
from verify.checker.point import Point, Worst
from verify.checker.reference import BY_COMPLEX, Reference, Way
from verify.checker.references.differences import CENTRAL

YOURS = "...  # yours"
# A choice: an entry that a draw does not show, as where a relu is off, gets seven more. Each takes three calls.
_SEEDS = range(8)
# A choice: more numbers make the lines unreadable.
_MOST_LITERALS = 96
# One-sided differences are known to this, relative to both values.
_PLAIN = 1e-4
# A complex step is believed if a central difference of this step agrees to a thousandth, which its own
# truncation, of order 1e-10, and rounding, of 1e-11 of y, leave far behind.
_PLAIN_STEP, _AGREES = 1e-5, 1e-3


class _Lines(NamedTuple):
    """What the lines are made of: a disagreement, how it is differentiated, and a seed; without one, literal arrays."""

    reference: Reference
    point: Point
    worst: Worst
    way: Way
    seed: int | None


def reproduce(found: Mapping[int, Finding], worst: Worst | None) -> str:
    """The lines; empty where none so short show what is wrong."""
    if worst is None:
        return ""
    reference, point = found[worst.argument].reference, found[worst.argument].point
    if reference is None or point is None:
        return ""
    for lines in _tried(reference, point, worst):
        text = _text(lines)
        with np.errstate(all="ignore"):
            values = _run(text, point)
        if values is None or not _differ(*values, lines.way.enough):
            continue
        with np.errstate(all="ignore"):
            confirmed = _confirmed(lines, values)
        if confirmed:
            return f"{text}  # {values[0]!r}, where differences say {values[1]!r}"
    return ""


def _tried(reference: Reference, point: Point, worst: Worst) -> Iterator[_Lines]:
    """Seeds, then literal arrays if they are few."""
    few = sum(np.size(a) for a in point.arrays if a is not None) + point.dy.size <= _MOST_LITERALS
    for way in reference.ways(point, worst):
        for seed in _SEEDS if way.drawn else (None,) if few else ():
            yield _Lines(reference, point, worst, way, seed)


def _confirmed(lines: _Lines, shown: tuple[float, float]) -> bool:
    """Whether plain differences at the same arrays say so as well: a complex step through an abs is no proof.

    The claim must lie outside both one-sided differences, by more than they are known to. At kinks it must not be that
    of the branch which the forward was found to take. With a complex step a central difference must agree to a
    thousandth.
    """

    def by(way: Way, h: float) -> float:
        values = _run(_text(lines._replace(way=way._replace(h=h, drawn=lines.way.drawn))), lines.point)
        return math.nan if values is None else values[1]

    claimed, true = shown
    by_complex = lines.way.moved == BY_COMPLEX.moved
    if lines.reference.one_sided and by_complex:
        return true == lines.worst.numeric
    if by_complex:
        central = by(CENTRAL, _PLAIN_STEP)
        return abs(central - true) <= _AGREES * abs(true) or abs(central - true) <= _AGREES * abs(claimed - true)
    if lines.way.moved == CENTRAL.moved:
        return True
    ends = sorted(by(way, 1.0 if lines.way.drawn else lines.point.step) for way in (BEHIND, AHEAD))
    room = _PLAIN * max(map(abs, ends))
    apart = not ends[0] - room <= claimed <= ends[1] + room
    # Drawn arrays must lie at no kink: there every right backward says the same.
    return all(map(math.isfinite, ends)) and (ends[1] - ends[0] <= room if lines.way.drawn else apart)


def _text(lines: _Lines) -> str:
    point, seed, k, layer = lines.point, lines.seed, lines.worst.argument, lines.point.layer
    entry = f"[{', '.join(map(str, lines.worst.index)) or '()'}]"
    floating = [i for i, a in enumerate(layer.arrays) if i in layer.differentiable and a is not None]
    scalar = not all(np.ndim(layer.arrays[i]) for i in floating)  # a sum of scalars is no array
    values = {"k": k, "h": repr(lines.way.h), "floating": floating, "as_array": "np.asarray" if scalar else ""}
    place = _place_of_gradient(point, k)
    text = _functions(layer.forward, layer.backward)
    if seed is not None:
        text.append(f"rng = np.random.default_rng({seed})")
    arrays = ", ".join(_array(lines, i) for i in range(len(layer.arrays)))
    text.append(f"arrays, options = [{arrays}], {_options(layer.options)}")
    if YOURS in text[-1]:
        text[-1] = f"arrays = [{arrays}]; options = {YOURS}"
    text += [
        "y, cache = forward(*arrays, **options)",
        "dy = " + ("rng.integers(-4, 5, y.shape).astype(y.dtype)" if seed is not None else _literal(point.dy)),
        f"step = np.zeros_like(arrays[{k}]); step{entry} = 1",
        f"moved = [{lines.way.moved.format(**values)} for i, a in enumerate(arrays)]",
        f"print(backward(dy, cache)[{place}]{entry}, (dy * ({lines.way.slope.format(**values)})).sum())",
    ]
    return "\n".join(text)


def _array(lines: _Lines, i: int) -> str:
    """The expression that makes array i."""
    array: Any = lines.point.arrays[i]
    if not isinstance(array, np.ndarray):
        return repr(array)
    if lines.seed is None or (i not in lines.point.layer.wrt and array.size <= _MOST_LITERALS):
        return _literal(array)
    if array.dtype.kind in "iub":  # labels, say
        return f"rng.integers({array.min()}, {array.max()} + 1, {array.shape}).astype({array.dtype.name!r})"
    middle = 2 * array.size - 2 + array.size % 2
    drawn = lines.way.drawn.format(shape=array.shape, size=array.size, middle=middle)
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
    layer = point.layer
    place = layer.differentiable.index(k)
    if place == k:
        return k
    _, cache = layer.value_and_cache(point.arrays)
    returned = layer.backward(point.dy.copy(), cache)
    return k if len(returned) == len(layer.arrays) else place


def _run(text: str, point: Point) -> tuple[float, float] | None:
    """The two numbers the lines print; None where they raise."""
    printed: list[Any] = []
    names = {
        "forward": point.layer.forward,
        "backward": point.layer.backward,
        "layer": getattr(point.layer.forward, "layer", None),
        "options": point.layer.options,
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
