"""The declaration of pad2d."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from cnn_core import pad2d
from verify import strategies
from verify.layers import _scopes
from verify.layers._layer import Array, BenchCase, Case, Configuration, Layer, Reject

_MODES = ("constant", "reflect", "replicate", "circular")
# Few of one entry, which cannot be reflected.
_SIZES = (2, 3, 4, 2, 3, 4, 2, 3, 4, 1)


@st.composite
def pad2d_cases(draw: st.DrawFn) -> Case:
    """Valid calls: every mode and form of pad, crops on one side or both, all cropped, and N = 0."""
    mode = draw(st.sampled_from((*_MODES, "reflect")))
    height, width = draw(st.sampled_from(_SIZES)), draw(st.sampled_from(_SIZES))
    if mode == "constant" and draw(st.integers(0, 7)) == 7:
        height = 0
    form = draw(st.sampled_from(["sides"] * 6 + ["int", "pair"]))
    pad: Any = (_sides(draw, mode, height), _sides(draw, mode, width))
    if form != "sides":
        # A side that either axis bears.
        most = {"reflect": min(height, width) - 1, "circular": min(height, width)}.get(mode, 3)
        one = draw(st.integers(-(min(height, width) // 2), most))
        pad = one if form == "int" else (one, draw(st.integers(-(width // 2), _most(mode, width))))
    images, channels = draw(st.sampled_from((1, 2, 1, 2, 1, 2, 1, 0))), draw(st.integers(1, 2))
    x = draw(strategies.integers((images, channels, height, width)))
    options: dict[str, Any] = {"pad": pad, "mode": mode}
    if mode == "constant":
        options["value"] = draw(st.integers(-3, 3).map(float))
    return Case((x,), options)


def _most(mode: str, size: int) -> int:
    """Return the largest pad of a side that is drawn, for an axis of this size."""
    return {"reflect": min(size - 1, 3), "circular": min(size, 3)}.get(mode, 3)


def _sides(draw: st.DrawFn, mode: str, size: int) -> tuple[int, int]:
    """Draw the two pads of an axis. One time in four they may leave nothing of it."""
    least = min(draw(st.sampled_from((1, 1, 1, 0))), size)
    before = draw(st.integers(least - size, _most(mode, size)))
    if mode == "circular":
        # It repeats what is left, at most once, so a crop behind leaves at least `before` entries.
        behind = max(abs(before), least - before) - size
        return before, draw(st.integers(behind, _most(mode, size + min(before, 0))))
    return before, draw(st.integers(least - size - before, _most(mode, size)))


def _reject(
    name: str,
    message: str,
    error: type[Exception] = ValueError,
    *,
    x: object = np.zeros((2, 3, 4, 5)),
    pad: object = 1,
    **options: object,
) -> Reject:
    return Reject(name, (x,), {"pad": pad, **options}, error, message)


_REJECTS = (
    _reject("rank of x", r"x must have 4 axes \(N C H W\), got shape \(4, 5\)", x=np.zeros((4, 5))),
    _reject("unknown mode", "mode must be one of constant, reflect, replicate, circular, got 'wrap'", mode="wrap"),
    _reject("mode of another type", r"mode must be one of constant, .*, got \['wrap'\]", mode=["wrap"]),
    _reject(
        "cropped away",
        r"pad \(-3, -2\) crops more than there is: the height of y would be 4 - 5",
        pad=((-3, -2), (0, 0)),
    ),
    _reject("cropped away, one number", r"pad \(-3, -3\) crops .* width of y would be 5 - 6", pad=(-2, -3)),
    _reject(
        "reflect too far", r"mode 'reflect' pads height 4 by 3 a side at most, got pad \(4, 4\)", pad=4, mode="reflect"
    ),
    _reject(
        "circular too far",
        r"mode 'circular' pads width 5 by 5 a side at most, got pad \(0, 6\)",
        pad=((0, 0), (0, 6)),
        mode="circular",
    ),
    _reject(
        "circular beyond what is left",
        r"mode 'circular' pads width 5 by 2 a side at most, got pad \(-3, 3\) \(2 are not cropped\)",
        pad=((0, 0), (-3, 3)),
        mode="circular",
    ),
    _reject(
        "nothing to replicate",
        r"mode 'replicate' pads height 0 by 0 a side at most, got pad \(1, 1\)",
        x=np.zeros((2, 3, 0, 5)),
        mode="replicate",
    ),
    _reject(
        "nothing to reflect",
        r"mode 'reflect' pads width 0 by 0 a side at most, got pad \(1, 1\)",
        x=np.zeros((2, 3, 4, 0)),
        mode="reflect",
    ),
    _reject(
        "value of another mode",
        r"value is for mode constant, got mode='reflect' and value=2\.0",
        mode="reflect",
        value=2.0,
    ),
    _reject("boolean value", "value must be a real number, got True", TypeError, value=True),
    _reject("value None", "value must be a real number, got None", TypeError, value=None),
    _reject("complex value", "value must be a real number, got 1j", TypeError, value=1j),
    _reject(
        "value beyond the dtype",
        r"value 1e\+39 is beyond dtype float32",
        x=np.zeros((2, 3, 4, 5), np.float32),
        value=1e39,
    ),
    _reject(
        "four numbers", r"pad must be an integer or a pair of integers, got \(1, 1, 1, 1\)", TypeError, pad=(1, 1, 1, 1)
    ),
    _reject(
        "mixed pad",
        r"pad must be \(\(top, bottom\), \(left, right\)\), got \(1, \(0, 1\)\)",
        TypeError,
        pad=(1, (0, 1)),
    ),
    _reject("fractional pad", r"pad must be an integer or a pair of integers, got 1\.5", TypeError, pad=1.5),
    _reject("boolean pad", "pad must be an integer or a pair of integers, got True", TypeError, pad=True),
    _reject("integer x", "x must be a floating .* got dtype int32", TypeError, x=np.zeros((2, 3, 4, 5), np.int32)),
    _reject("object x", "x must be a floating .* got dtype object", TypeError, x=np.zeros((2, 3, 4, 5), object)),
    _reject("no x", "x must be a NumPy array, got NoneType", TypeError, x=None),
)


def _bench(zoo: str, images: int, channels: int, size: int, mode: str, pad: int, naive: bool = False) -> BenchCase:
    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        return (generator.integers(-99, 100, (images, channels, size, size)).astype(np.float32),)

    name = f"{mode} by {pad} on {channels}x{size}x{size}, N = {images}"
    return BenchCase(name, zoo, images, draw, {"pad": pad, "mode": mode}, naive)


def _torch(torch: Any, x: Any, *, pad: Any, mode: str, **value: Any) -> Any:
    """PyTorch's order is left, right, top, bottom.

    It refuses a constant side that crops more than the whole image, and a y without rows and columns in two modes.
    """
    (top, bottom), (left, right) = strategies.sides(pad)
    beyond = -min(top, bottom) > x.shape[2] or -min(left, right) > x.shape[3]
    nothing = x.shape[2] + top + bottom == x.shape[3] + left + right == 0
    if (mode == "constant" and beyond) or (mode in ("reflect", "replicate") and nothing):
        return None
    return torch.nn.functional.pad(x, (left, right, top, bottom), mode, **value)


def _jax(jax: Any, x: Any, *, pad: Any, mode: str, value: float = 0.0) -> Any:
    """JAX does not crop. What is circular is cropped before, and the rest behind."""
    pads = strategies.sides(pad)
    grow = [(0, 0), (0, 0), *((max(before, 0), max(after, 0)) for before, after in pads)]
    crop = (..., *(slice(max(-before, 0), min(after, 0) or None) for before, after in pads))
    if mode == "constant":
        return jax.numpy.pad(x, grow, constant_values=value)[crop]
    if mode == "circular":
        return jax.numpy.pad(x[crop], grow, "wrap")
    return jax.numpy.pad(x, grow, {"reflect": "reflect", "replicate": "edge"}[mode])[crop]


def _axes(bound: int, mode: str) -> list[tuple[int, int, int]]:
    """Return every size of an axis, with every pad before and after it that the mode can do."""
    pads, found = range(-bound, bound + 1), []
    for size, before, after in itertools.product(range(bound + 1), pads, pads):
        left, any_pad = size + min(before, 0) + min(after, 0), bound if size or mode == "constant" else 0
        most = {"reflect": max(size - 1, 0), "circular": left}.get(mode, any_pad)
        if size + before + after >= 0 and max(before, after, 0) <= most:
            found.append((size, before, after))
    return found


def _scope(bound: int) -> list[_scopes.Part]:
    """Every pair of axes for each mode: any pads before and after, which crop if they are negative, down to nothing.

    Sizes are from 0. The constant is 0 or the bound. Pairs of axes up to 1 come with
    all numbers of images and channels.
    """

    def pads(rows: Any, columns: Any, mode: str, batches: Sequence[tuple[int, int]]) -> Iterator[Configuration]:
        values = ({"value": 0.0}, {"value": float(bound)}) if mode == "constant" else ({},)
        for (images, channels), value in itertools.product(batches, values):
            shape = images, channels, rows[0], columns[0]
            yield Configuration((shape,), {"pad": (rows[1:], columns[1:]), "mode": mode, **value})

    parts = []
    for mode in _MODES:
        axes, few = _axes(bound, mode), _axes(1, mode)
        parts += _scopes.crossed(axes, axes, functools.partial(pads, mode=mode, batches=[(1, 1)]))
        parts += _scopes.crossed(few, few, functools.partial(pads, mode=mode, batches=_scopes.batches(bound)))
    return parts


PAD2D = Layer(
    name="pad2d",
    module=pad2d,
    arguments="x: N C H W -> y: N C oH oW",
    structure="multilinear",
    cases=pad2d_cases,
    rejects=_REJECTS,
    bench=(
        *(_bench("small enough for loops", 4, 3, 16, mode, 2, naive=True) for mode in _MODES),
        *(_bench("VGG on CIFAR", 32, 64, 32, mode, 1) for mode in _MODES),
        _bench("ResNet-50", 8, 3, 224, "constant", 3),
    ),
    source="torch.nn.functional.pad",
    torch=_torch,
    jax=_jax,
    onnx=("Pad",),
    scope=_scope,
)
