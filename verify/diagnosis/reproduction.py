"""A few lines that show a wrong gradient without the checker: at most ten.

They are run before they are printed. What cannot be imported by its name stands as `...  # yours`, as do the caller's
arrays if they are many.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib.machinery import PathFinder
from typing import Any, NamedTuple

import numpy as np

from verify.checker.point import Point
from verify.checker.reference import Way

YOURS = "...  # yours"
# Whether a caller has the arrays at hand, or a battery or a command drew them.
_AT_HAND: ContextVar[bool] = ContextVar("at_hand", default=True)
# A choice: of drawn arrays, others stand there as numbers if they are no more. More make the lines unreadable.
MOST_LITERALS = 96
# A choice: the caller's own arrays stand there as numbers if that takes no more than these characters: some twenty
# numbers of all digits.
_SHORT = 480


@contextmanager
def arrays_not_at_hand() -> Iterator[None]:
    """Within it the arrays of a check are not the reader's: lines must make them, or draw others."""
    token = _AT_HAND.set(False)
    try:
        yield
    finally:
        _AT_HAND.reset(token)


class Lines(NamedTuple):
    """What the lines are made of: a point, entries of argument k, how they are differentiated, and seeds.

    `seed` draws the arrays and dy, by `way.drawn`. Without it the arrays are those of the point, and `upstream` is the
    seed of dy. Without that dy stands there as numbers.
    """

    point: Point
    k: int
    indices: tuple[tuple[int, ...], ...]
    way: Way
    seed: int | None = None
    upstream: int | None = None


def text_of(lines: Lines) -> str:
    """The lines."""
    point, k, layer = lines.point, lines.k, lines.point.layer
    floating = [i for i, a in enumerate(layer.arrays) if i in layer.differentiable and a is not None]
    scalar = not all(np.ndim(layer.arrays[i]) for i in floating)  # a sum of scalars is no array
    values = {"k": k, "h": repr(lines.way.h), "floating": floating, "as_array": "np.asarray" if scalar else ""}
    gradient = f"backward(dy, cache){_place_of_gradient(point, k)}"
    places = [f"step[{', '.join(map(str, index)) or '()'}]" for index in lines.indices]
    claimed = f"({gradient} * step).sum()" if len(places) > 1 else gradient + places[0].removeprefix("step")
    return "\n".join(
        [
            *_functions(layer.forward, layer.backward),
            *([f"rng = np.random.default_rng({lines.seed})"] if lines.seed is not None else []),
            *_arrays(lines),
            "y, cache = forward(*arrays, **options)",
            f"dy = {_upstream(lines)}",
            f"step = np.zeros_like(arrays[{k}]); {' = '.join(places)} = 1",
            f"moved = [{lines.way.moved.format(**values)} for i, a in enumerate(arrays)]",
            f"print({claimed}, (dy * ({lines.way.slope.format(**values)})).sum())",
        ]
    )


def at_hand() -> bool:
    """Whether the reader has the arrays of this check."""
    return _AT_HAND.get()


def stands_as_numbers(point: Point, text: str = "") -> bool:
    """Whether the arrays given can stand in the lines as numbers: `text` is what they look like."""
    if at_hand():
        return len(text) <= _SHORT
    return sum(np.size(a) for a in point.layer.arrays if a is not None) <= MOST_LITERALS


def _upstream(lines: Lines) -> str:
    if lines.seed is not None:
        return "rng.integers(-4, 5, y.shape).astype(y.dtype)"
    if lines.upstream is not None:
        return f"np.random.default_rng({lines.upstream}).integers(-4, 5, y.shape).astype(y.dtype)"
    return _literal(lines.point.dy)


def _arrays(lines: Lines) -> list[str]:
    """The lines that make the arrays and the options."""
    layer = lines.point.layer
    options, arrays = _options(layer.options), ", ".join(_array(lines, i) for i in range(len(layer.arrays)))
    own = lines.seed is None and all(one is other for one, other in zip(lines.point.arrays, layer.arrays, strict=True))
    if own and not stands_as_numbers(lines.point, arrays):
        return [f"arrays = options = {YOURS}"] if options == YOURS else [f"options = {options}", f"arrays = {YOURS}"]
    if options == YOURS:
        return [f"arrays = [{arrays}]; options = {YOURS}"]
    return [f"arrays, options = [{arrays}], {options}"]


def _array(lines: Lines, i: int) -> str:
    """The expression that makes array i."""
    array: Any = lines.point.arrays[i]
    if not isinstance(array, np.ndarray):
        return repr(array)
    if lines.seed is None or (i not in lines.point.layer.wrt and array.size <= MOST_LITERALS):
        return _literal(array)
    if array.dtype.kind in "iub":  # labels, say
        return f"rng.integers({array.min()}, {array.max()} + 1, {array.shape}).astype({array.dtype.name!r})"
    middle = 2 * array.size - 2 + array.size % 2
    drawn = lines.way.drawn.format(shape=array.shape, size=array.size, middle=middle)
    return f"{drawn}.astype({array.dtype.name!r})"


def _literal(array: Any) -> str:
    kind = "" if array.dtype in (np.float64, np.int64) else f", {array.dtype.name!r}"
    if array.size > 1 and (array == array.flat[0]).all():
        return f"np.full({array.shape}, {array.flat[0].item()!r}{kind})"
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
    return f"from {module} import {first}; {{name}} = {path}" if rest else f"from {module} import {first} as {{name}}"


def _on_path(module: str) -> bool:
    """Whether another process finds its package: built in, or along sys.path."""
    top = module.partition(".")[0]
    return top in sys.builtin_module_names or PathFinder.find_spec(top) is not None


def _place_of_gradient(point: Point, k: int) -> str:
    """The index of the gradient in what backward returns: integer arrays may have a place, a bare array has none."""
    layer = point.layer
    place = layer.differentiable.index(k)
    if place == k and len(layer.differentiable) > 1:
        return f"[{k}]"
    _, cache = layer.value_and_cache(point.arrays)
    returned = layer.backward(point.dy.copy(), cache)
    if isinstance(returned, (np.ndarray, np.generic)):
        return ""
    return f"[{k if len(returned) == len(layer.arrays) else place}]"


def run(text: str, point: Point) -> tuple[float, float] | None:
    """The two numbers the lines print; None where they raise."""
    printed: list[Any] = []
    try:
        _executed(text, point, printed)
        return float(printed[0]), float(printed[1])
    except Exception:  # the layer at arrays it was not made for
        return None


def point_of(lines: Lines) -> Point | None:
    """The point that the lines make, with the gradients that backward claims there; None where they raise."""
    if lines.seed is None:
        return lines.point
    try:
        made = _executed(text_of(lines), lines.point, [])
        layer, arrays, dy = lines.point.layer, tuple(made["arrays"]), made["dy"]
        y, cache = layer.value_and_cache(arrays)
        return Point(layer, arrays, y, dy, layer.pull_back(arrays, dy, cache))
    except Exception:  # the layer has changed since
        return None


def _executed(text: str, point: Point, printed: list[Any]) -> dict[str, Any]:
    """Every name that the lines make; what they print goes to the list."""
    names = {
        "forward": point.layer.forward,
        "backward": point.layer.backward,
        "layer": getattr(point.layer.forward, "layer", None),
        "arrays": [np.array(a) if isinstance(a, np.ndarray) else a for a in point.arrays],
        "options": point.layer.options,
        "print": lambda *values: printed.extend(values),
    }
    exec("\n".join(runnable(text)), names)
    return names


def runnable(text: str) -> Iterator[str]:
    """The lines without what stands there as yours."""
    for line in text.splitlines():
        if not line.endswith(YOURS):
            yield line
        elif ";" in line:
            yield line.rpartition(";")[0]
