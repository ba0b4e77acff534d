"""unfold2d, fold2d, conv_transpose2d, pad2d, add, concat: every option matters, and strategies reach their corners."""

from __future__ import annotations

import inspect
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from test_geometry import reach, reaches, shape

from cnn_core import fold2d, unfold2d
from cnn_core._geometry import Axis, sliding_axes, transposed_axes
from verify import strategies
from verify.layers import LAYERS, Case
from verify.strategies import Window

Array = NDArray[Any]

MODES = ("constant", "reflect", "replicate", "circular")


def some(shape: Sequence[int], seed: int = 0) -> Array:
    """Small integers of this shape."""
    return np.random.default_rng(seed).integers(-4, 5, tuple(shape)).astype(np.float64)


# Options.

CONV = {"stride": 1, "padding": 1, "output_padding": 0, "dilation": 2, "groups": 1}
FOLD = {"output_size": (4, 4), "kernel_size": (2, 2), "stride": (2, 2), "padding": 0, "dilation": 1}
# layer -> arrays, options, and other values of each option. All fit the arrays.
CHANGED: dict[str, tuple[list[Array], dict[str, Any], dict[str, list[Any]]]] = {
    "unfold2d": (
        [some((2, 2, 4, 5))],
        {"kernel_size": 2, "stride": 1, "padding": 1, "dilation": 1},
        {
            "kernel_size": [1, (1, 2), (2, 1)],
            "stride": [2, (1, 2), (2, 1)],
            "padding": [0, (0, 1), (1, 0), ((1, 0), (1, 1)), ((0, 1), (1, 1)), ((1, 1), (0, 1)), "same"],
            "dilation": [2, (1, 2), (2, 1)],
        },
    ),
    "fold2d": (
        [some((2, 8, 4))],
        FOLD,
        {
            "output_size": [(5, 4), (4, 5), 5],
            "kernel_size": [(1, 2), (2, 1), (1, 1)],
            "stride": [(3, 2), (2, 3)],
            "padding": [((1, 0), (1, 0)), ((1, 0), (0, 1)), ((0, 1), (1, 0)), ((0, 1), (0, 1))],
            "dilation": [(2, 1), (1, 2)],
        },
    ),
    "conv_transpose2d": (
        [some((2, 2, 3, 4)), some((2, 2, 3, 2), 1)],
        CONV,
        {
            "stride": [2, (1, 2), (2, 1)],
            "padding": [0, (0, 1), ((1, 0), (1, 1)), ((0, 1), (1, 1)), ((1, 1), (1, 0)), "same"],
            "output_padding": [1, (0, 1), (1, 0)],
            "dilation": [1, (2, 1), (1, 2)],
            "groups": [2],
        },
    ),
    "pad2d": (
        [some((2, 2, 4, 5))],
        {"pad": 2, "mode": "constant", "value": 0.0},
        {
            "pad": [1, (1, 2), (2, 1), ((1, 2), (2, 2)), ((2, 1), (2, 2)), ((2, 2), (1, 2)), -1, (2, -1)],
            "mode": ["reflect", "replicate", "circular"],
            "value": [1.0, -2, math.inf],
        },
    ),
    "add": ([some((2, 3)), some((3,))], {}, {}),
    "concat": ([some((2, 2, 2)), some((2, 2, 2), 1)], {"axis": 0}, {"axis": [1, -1]}),
}


@pytest.mark.parametrize("name", CHANGED)
def test_every_option_changes_the_output(name: str) -> None:
    arrays, options, others = CHANGED[name]
    for version in LAYERS[name].implementations:
        known = inspect.signature(version.forward).parameters.values()
        assert {each.name for each in known if each.kind is each.KEYWORD_ONLY} == set(others)
        y, _ = version.forward(*arrays, **options)
        for option, values in others.items():
            seen = [y]
            for value in values:
                full = {**options, option: value}
                if name == "fold2d":  # of another size, x has as many windows
                    full["output_size"] = {"stride": 5, "padding": 3, "dilation": 5}.get(option, full["output_size"])
                changed, _ = version.forward(*arrays, **full)
                assert not any(np.array_equal(changed, each) for each in seen), (version.name, option, value)
                seen.append(changed)


# Geometry and corners.


def test_a_transposed_axis_ends_where_its_last_window_does() -> None:
    ranges = (range(3), range(1, 4), range(1, 4), range(1, 4), range(3), range(3), range(4))
    for out, kernel, stride, dilation, before, after, extra in itertools.product(*ranges):
        options: dict[str, Any] = {
            "stride": (stride, 1),
            "padding": ((before, after), (0, 0)),
            "output_padding": (extra, 0),
            "dilation": (dilation, 1),
        }
        covered = [o * stride + tap * dilation for o in range(out) for tap in range(kernel)]
        size = max(covered, default=-1) + 1 + extra - before - after
        if extra >= stride and extra >= dilation:
            with pytest.raises(ValueError, match=f"output_padding {extra} along the height must be less than"):
                transposed_axes((out, 1), (kernel, 1), **options)
        elif not out or size < 1:
            with pytest.raises(ValueError, match=f"height of x and y must be at least 1, got {out} and"):
                transposed_axes((out, 1), (kernel, 1), **options)
        else:
            axis, other = transposed_axes((out, 1), (kernel, 1), **options)
            assert (axis.size, axis.out, other.size) == (size, out, 1)
            assert [before + axis.source(o, tap) for o in range(out) for tap in range(kernel)] == covered
            assert axis.padded == max(covered) + 1 + extra
            back, _ = sliding_axes((size, 1), (kernel, 1), **{k: options[k] for k in ("stride", "padding", "dilation")})
            assert extra >= stride or back.out == out


def test_the_slices_of_an_axis_are_its_sources() -> None:
    for size, kernel, stride, dilation, pad in itertools.product(range(1, 5), (1, 2, 3), (1, 2, 3), (1, 2), (0, 1)):
        if size + 2 * pad <= dilation * (kernel - 1):
            continue
        axis, _ = sliding_axes((size, 1), (kernel, 1), stride=(stride, 1), padding=(pad, 0), dilation=(dilation, 1))
        places = np.arange(axis.padded) - pad
        assert list(places[axis.inner]) == list(range(size))
        for tap in range(kernel):
            assert list(places[axis.reads(tap)]) == [axis.source(output, tap) for output in range(axis.out)]


def laid(window: Window) -> tuple[Axis, Axis]:
    """The axes of a transposed convolution."""
    return transposed_axes(window.size, window.kernel, **window.options)


def extra(window: Window) -> tuple[int, ...]:
    """output_padding, by axis."""
    return strategies.both(window.options["output_padding"])


def on_either(corner: Callable[[Axis], bool]) -> Callable[[Window], bool]:
    """Whether height or width is such an axis."""
    return lambda window: any(corner(axis) for axis in laid(window))


def unequal(*fields: str) -> Callable[[Window], bool]:
    """Whether height and width differ in each of these."""
    return lambda window: all(len({getattr(axis, field) for axis in laid(window)}) == 2 for field in fields)


def cropped_wholly(axis: Axis) -> bool:
    """Whether all taps of an entry of x are cropped."""
    return any(not any(0 <= axis.source(o, tap) < axis.size for tap in range(axis.kernel)) for o in range(axis.out))


TRANSPOSED: dict[str, Callable[[Window], bool]] = {
    "gaps between the windows": on_either(lambda axis: axis.stride > reach(axis._replace(out=1)) and axis.out > 1),
    "windows that overlap": on_either(lambda axis: axis.stride == 1 < axis.kernel and axis.out > 1),
    "output_padding": lambda window: min(extra(window)) > 0,
    "output_padding along the width only": lambda window: extra(window)[0] == 0 < extra(window)[1],
    "output_padding as a number": lambda window: isinstance(window.options["output_padding"], int),
    "output_padding that the dilation allows": lambda window: any(
        most >= axis.stride for most, axis in zip(extra(window), laid(window), strict=True)
    ),
    "output_padding that the stride allows": lambda window: any(
        most >= axis.dilation for most, axis in zip(extra(window), laid(window), strict=True)
    ),
    "room for one more window": lambda window: any(
        most >= axis.stride for most, axis in zip(extra(window), laid(window), strict=True)
    ),
    "an entry cropped wholly": on_either(cropped_wholly),
    "1x1 output": lambda window: [axis.size for axis in laid(window)] == [1, 1],
    "1x1 input": lambda window: window.size == (1, 1) != tuple(axis.size for axis in laid(window)),
    "1x1 kernel": lambda window: window.kernel == (1, 1),
    "even kernel": lambda window: window.kernel == (2, 2),
    "unequal sizes": unequal("out", "size"),
    "all unequal": unequal("size", "kernel", "stride", "dilation", "before", "out"),
    "more cropped in front": on_either(lambda axis: axis.before > axis.after),
    "more cropped behind": on_either(lambda axis: axis.before < axis.after),
    "same": lambda window: window.options["padding"] == "same",
    "same, odd in total": lambda window: (
        window.options["padding"] == "same" and any(axis.before < axis.after for axis in laid(window))
    ),
    "valid": lambda window: window.options["padding"] == "valid",
    "padding as a number": lambda window: isinstance(window.options["padding"], int) and window.options["padding"] > 0,
    "padding as a pair": lambda window: (
        isinstance(window.options["padding"], tuple) and isinstance(window.options["padding"][0], int)
    ),
    "stride as a number": lambda window: isinstance(window.options["stride"], int) and window.options["stride"] > 1,
}


@pytest.mark.long
@pytest.mark.parametrize("corner", TRANSPOSED)
def test_transposed_windows_reach(corner: str) -> None:
    assert reaches(strategies.transposed_windows(), TRANSPOSED[corner])


def pads(case: Case) -> tuple[int, ...]:
    """The four sides of pad2d's pad."""
    return tuple(side for axis in strategies.sides(case.options["pad"]) for side in axis)


def left_of(case: Case) -> list[int]:
    """Height and width of pad2d's y."""
    (top, bottom), (left, right) = strategies.sides(case.options["pad"])
    return [shape(case)[2] + top + bottom, shape(case)[3] + left + right]


def of_mode(mode: str, corner: Callable[[Case], bool]) -> Callable[[Case], bool]:
    """Whether a case of pad2d has this mode, and is such a corner."""
    return lambda case: case.options["mode"] == mode and corner(case)


def farthest(case: Case) -> bool:
    """Whether a side is padded as far as "reflect" (size - 1) or "circular" (size) goes."""
    most = [size - (case.options["mode"] == "reflect") for size in shape(case)[2:] for _ in range(2)]
    return any(0 < size == side for side, size in zip(pads(case), most, strict=True))


def covered(case: Case) -> Array:
    """How often each entry of fold2d's y is written to."""
    y, _ = fold2d.fast.forward(np.ones((1, *shape(case)[1:])), **case.options)
    counts: Array = y[0, 0]
    return counts


def dropped(case: Case) -> bool:
    """Whether an entry of fold2d's x lies in the padding."""
    options = {key: value for key, value in case.options.items() if key != "output_size"}
    ones = np.ones((1, 1, *strategies.both(case.options["output_size"])))
    return bool((unfold2d.fast.forward(ones, **options)[0] == 0).any())


def axis_of(case: Case) -> int:
    """concat's axis, from the front."""
    return int(case.options["axis"]) % len(shape(case))


CORNERS: dict[str, dict[str, Callable[[Case], bool]]] = {
    "unfold2d": {
        "no image": lambda case: shape(case)[0] == 0,
        "several images and channels": lambda case: min(shape(case)[:2]) > 1,
        "one channel": lambda case: shape(case)[1] == 1,
        "kernel as a number": lambda case: isinstance(case.options["kernel_size"], int),
        "unequal kernel": lambda case: len({*strategies.both(case.options["kernel_size"])}) == 2,
        "padding of each side": lambda case: len({*itertools.chain(*strategies.sides(case.options["padding"]))}) == 4,
    },
    "fold2d": {
        "no image": lambda case: shape(case)[0] == 0,
        "several images": lambda case: shape(case)[0] > 1,
        "one window": lambda case: shape(case)[2] == 1,
        "entries that no window covers": lambda case: bool((covered(case) == 0).any()),
        "entries that four windows cover": lambda case: bool((covered(case) >= 4).any()),
        "entries in the padding": dropped,
        "output as a number": lambda case: isinstance(case.options["output_size"], int),
        "unequal output": lambda case: len({*strategies.both(case.options["output_size"])}) == 2,
    },
    "conv_transpose2d": {
        "no image": lambda case: shape(case)[0] == 0,
        "several images": lambda case: shape(case)[0] > 1,
        "one channel, one filter": lambda case: shape(case)[1] == shape(case, 1)[1] == 1,
        "several of both, unequal": lambda case: 1 < shape(case)[1] != case.options["groups"] * shape(case, 1)[1] > 1,
        "groups": lambda case: case.options["groups"] > 1 and shape(case)[1] > case.options["groups"],
        "depthwise": lambda case: case.options["groups"] == shape(case)[1] > 1 == shape(case, 1)[1],
        "bias": lambda case: case.arrays[2] is not None,
        "no bias": lambda case: case.arrays[2] is None,
    },
    "pad2d": {
        "no image": lambda case: shape(case)[0] == 0,
        "no row": lambda case: shape(case)[2] == 0,
        "a number": lambda case: isinstance(case.options["pad"], int) and case.options["pad"] > 0,
        "a negative number": lambda case: isinstance(case.options["pad"], int) and case.options["pad"] < 0,
        "a pair": lambda case: (
            isinstance(case.options["pad"][0], int) if isinstance(case.options["pad"], tuple) else False
        ),
        "a value": lambda case: case.options.get("value", 0) != 0 and max(pads(case)) > 0,
        "more cropped than there is": lambda case: max(0, *shape(case)[2:]) < -min(pads(case)),
        "reflect as far as it goes": of_mode("reflect", farthest),
        "circular as far as it goes": of_mode("circular", farthest),
        **{
            f"{mode}, {name}": of_mode(mode, corner)
            for mode in MODES
            for name, corner in {
                "unequal sides": lambda case: (
                    pads(case)[0] != pads(case)[1] != pads(case)[2] != pads(case)[3] and min(pads(case)) >= 0
                ),
                "an axis cropped on both sides": lambda case: any(
                    before < 0 > after and left > 0
                    for (before, after), left in zip(strategies.sides(case.options["pad"]), left_of(case), strict=True)
                ),
                "a crop and a pad of one axis": lambda case: pads(case)[0] * pads(case)[1] < 0 < min(left_of(case)),
                "a pad and a crop of one axis": lambda case: pads(case)[2] > 0 > pads(case)[3] and left_of(case)[1] > 0,
                "nothing left": lambda case: 0 in left_of(case) and 0 not in shape(case),
            }.items()
        },
    },
    "add": {
        "equal shapes": lambda case: shape(case) == shape(case, 1) and min(shape(case), default=0) > 1,
        "scalars": lambda case: shape(case) == shape(case, 1) == (),
        "a scalar and an array": lambda case: shape(case) == () and min(shape(case, 1), default=0) > 1,
        "x repeated": lambda case: (
            len(shape(case)) == len(shape(case, 1)) and 1 in shape(case) and 1 not in shape(case, 1)
        ),
        "x lacks axes": lambda case: 0 < len(shape(case)) < len(shape(case, 1)),
        "z lacks axes": lambda case: 0 < len(shape(case, 1)) < len(shape(case)),
        "both repeated": lambda case: any(
            a == 1 < b and d == 1 < c
            for a, b, c, d in zip(shape(case), shape(case, 1), shape(case)[1:], shape(case, 1)[1:], strict=False)
        ),
        "one against none": lambda case: (
            len(shape(case)) == len(shape(case, 1))
            and any(a == 1 and b == 0 for a, b in zip(shape(case), shape(case, 1), strict=True))
        ),
    },
    "concat": {
        "two arrays": lambda case: len(case.arrays) == 2,
        "four arrays": lambda case: len(case.arrays) == 4,
        "first axis of several": lambda case: axis_of(case) == 0 and min(shape(case)) > 0 and len(shape(case)) > 1,
        "last axis": lambda case: axis_of(case) == len(shape(case)) - 1 > 0,
        "middle axis": lambda case: 0 < axis_of(case) < len(shape(case)) - 1 and min(shape(case)) > 1,
        "negative axis": lambda case: case.options["axis"] < 0,
        "unequal sizes": lambda case: len({shape(case, k)[axis_of(case)] for k in range(len(case.arrays))}) > 2,
        "an empty part": lambda case: (
            0 in {shape(case, k)[axis_of(case)] for k in range(len(case.arrays))}
            and any(a.size for a in case.arrays if a is not None)
        ),
        "no part has an entry": lambda case: not any(a.size for a in case.arrays if a is not None),
    },
}


@pytest.mark.long
@pytest.mark.parametrize(("name", "corner"), [(name, corner) for name in CORNERS for corner in CORNERS[name]])
def test_cases_reach(name: str, corner: str) -> None:
    assert reaches(LAYERS[name].cases(), CORNERS[name][corner])
