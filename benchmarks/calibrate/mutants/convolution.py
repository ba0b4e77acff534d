"""Mutants of conv2d."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.calibrate.mutants._mutant import (
    Array,
    Backward,
    Gradients,
    change,
    features_first,
    given,
    keeping,
    left_out,
    of_dy,
    only,
    rolled,
)
from cnn_core import conv2d
from verify.diagnosis.causes import CauseCode as C

_DX, _DW, _DB = 0, 1, 2


def _conv(dy: Array, cache: Any, **changes: Any) -> Gradients:
    """Return the naive backward with a changed cache. Both versions give these numbers."""
    return conv2d.naive.backward(dy, keeping(cache, **changes)._replace(owner="conv2d.naive"))


def _axes(cache: Any, **changes: int) -> dict[str, Any]:
    return {"rows": cache.rows._replace(**changes), "columns": cache.columns._replace(**changes)}


def _conv_given(name: str, code: C, which: int, changes: Callable[[Any], dict[str, Any]]) -> None:
    given(name, "conv2d", code, which, lambda dy, cache, right: _conv(dy, cache, **changes(cache))[which])


def _ends(cache: Any, moved: Callable[[Any], tuple[int, int]]) -> dict[str, Any]:
    both = {}
    for name in ("rows", "columns"):
        before, after = moved(getattr(cache, name))
        both[name] = getattr(cache, name)._replace(before=before, after=after)
    return both


for _which, _name in ((_DX, "dx"), (_DW, "dw")):
    _conv_given(f"conv-{_name}-nostride", C.STRIDE_IGNORED, _which, lambda cache: _axes(cache, stride=1))
    _conv_given(
        f"conv-{_name}-nostride along H",
        C.STRIDE_IGNORED,
        _which,
        lambda cache: {"rows": cache.rows._replace(stride=1)},
    )
    _conv_given(f"conv-{_name}-nodilation", C.DILATION_IGNORED, _which, lambda cache: _axes(cache, dilation=1))
    _conv_given(f"conv-{_name}-nogroups", C.GROUPS_IGNORED, _which, lambda cache: {"groups": 1})
    _conv_given(
        f"conv-{_name}-asym-crop",
        C.PADDING_CROPPED,
        _which,
        lambda cache: _ends(cache, lambda axis: (axis.after, axis.before)),
    )
    _conv_given(
        f"conv-{_name} padding all behind",
        C.PADDING_CROPPED,
        _which,
        lambda cache: _ends(cache, lambda axis: (0, axis.before + axis.after)),
    )
_conv_given("conv-rot180", C.KERNEL_NOT_FLIPPED, _DX, lambda cache: {"w": cache.w[..., ::-1, ::-1]})
_conv_given("kernel not flipped along W", C.KERNEL_NOT_FLIPPED, _DX, lambda cache: {"w": cache.w[..., ::-1]})
_conv_given(
    "kernel's axes swapped", C.HEIGHT_WIDTH, _DX, lambda cache: {"w": cache.w.swapaxes(2, 3).reshape(cache.w.shape)}
)
change("dw mirrored", "conv2d", C.FLIPPED, _DW, lambda g: g[..., ::-1, ::-1].copy())
change("dw mirrored along H", "conv2d", C.FLIPPED, _DW, lambda g: g[..., ::-1, :].copy())
change("dx mirrored", "conv2d", C.FLIPPED, _DX, lambda g: g[..., ::-1, ::-1].copy())
change("conv-dw-order", "conv2d", C.TRANSPOSED, _DW, lambda g: g.transpose(1, 0, 2, 3).reshape(g.shape).copy())
change("conv-nonsquare-dw", "conv2d", C.HEIGHT_WIDTH, _DW, lambda g: g.swapaxes(2, 3).reshape(g.shape).copy())
change("dx's H and W swapped", "conv2d", C.HEIGHT_WIDTH, _DX, lambda g: g.swapaxes(2, 3).reshape(g.shape).copy())
change("dx channels last", "conv2d", C.TRANSPOSED, _DX, lambda g: g.transpose(0, 2, 3, 1).reshape(g.shape).copy())
change("dx features first", "conv2d", C.FEATURES_BATCH_SWAPPED, _DX, features_first)


def _by_groups(gradient: Array, groups: int, axis: int, order: Callable[[Array], Array]) -> Array:
    if not gradient.size:
        return gradient
    blocks = np.moveaxis(gradient, axis, 0).reshape(groups, -1, *np.delete(gradient.shape, axis))
    return np.moveaxis(order(blocks).reshape(-1, *blocks.shape[2:]), 0, axis).copy()


given(
    "conv-groups-dw",
    "conv2d",
    C.GROUPS_PERMUTED,
    _DW,
    lambda dy, cache, right: _by_groups(right(dy, cache)[1], cache.groups, 0, lambda b: b[::-1]),
)
given(
    "dx's groups turned",
    "conv2d",
    C.GROUPS_PERMUTED,
    _DX,
    lambda dy, cache, right: _by_groups(right(dy, cache)[0], cache.groups, 1, lambda b: np.roll(b, 1, 0)),
)
given(
    "dw's groups interleaved",
    "conv2d",
    C.GROUPS_PERMUTED,
    _DW,
    lambda dy, cache, right: _by_groups(right(dy, cache)[1], cache.groups, 0, lambda b: b.swapaxes(0, 1)),
)


def _leftover(dy: Array, cache: Any, right: Backward) -> Array:
    """Return dx rolled by the number of leftover rows and columns (conv-dx-leftover)."""
    left = [
        (a.size + a.before + a.after - a.dilation * (a.kernel - 1) - 1) % a.stride for a in (cache.rows, cache.columns)
    ]
    return np.roll(right(dy, cache)[0], left, (2, 3))


given("conv-dx-leftover", "conv2d", C.SHIFTED, _DX, _leftover)
change("dx one row down", "conv2d", C.SHIFTED, _DX, lambda g: np.pad(g, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1])
change("dw rolled along W", "conv2d", C.SHIFTED, _DW, lambda g: rolled(g, 1, 3))
of_dy("dw of a dy rolled along H", "conv2d", C.SHIFTED, _DW, lambda dy: rolled(dy, 1, 2))
change("dx without its last row", "conv2d", C.REMAINDER_LOST, _DX, lambda g: left_out(g, 2))
of_dy("dw without y's last row", "conv2d", C.REMAINDER_LOST, _DW, lambda dy: left_out(dy, 2))
of_dy("dx without y's last column", "conv2d", C.REMAINDER_LOST, _DX, lambda dy: left_out(dy, 3))
of_dy("dw without the last image", "conv2d", C.REMAINDER_LOST, _DW, lambda dy: left_out(dy, 0))
of_dy("conv-batch-assign", "conv2d", C.ONE_IMAGE_ONLY, _DW, lambda dy: only(dy, (0,), -1))
of_dy("db of the first image", "conv2d", C.ONE_IMAGE_ONLY, _DB, lambda dy: only(dy, (0,), 0))
of_dy("db of the first pixel", "conv2d", C.ONE_POSITION_ONLY, _DB, lambda dy: only(dy, (2, 3), 0))
of_dy("dw of the first window", "conv2d", C.ONE_POSITION_ONLY, _DW, lambda dy: only(dy, (2, 3), 0))
for _which, _name in ((_DX, "dx"), (_DW, "dw")):
    for _axis, _place in ((2, 0), (2, -1), (3, 0), (3, -1)):
        of_dy(
            f"{_name} of the windows at {_place} along y's axis {_axis}",
            "conv2d",
            C.ONE_POSITION_ONLY,
            _which,
            partial(only, axes=(_axis,), which=_place),
        )
of_dy(
    "dw for the first dy everywhere",
    "conv2d",
    C.UPSTREAM_BROADCAST,
    _DW,
    lambda dy: np.full_like(dy, dy.flat[0]) if dy.size else dy,
)
of_dy("dw for the first image's dy", "conv2d", C.UPSTREAM_BROADCAST, _DW, lambda dy: dy[:1] + 0 * dy)
of_dy(
    "dx of a dy read channels last", "conv2d", C.DY_LAYOUT, _DX, lambda dy: dy.transpose(0, 2, 3, 1).reshape(dy.shape)
)
of_dy("dw of a dy mirrored", "conv2d", C.DY_LAYOUT, _DW, lambda dy: dy[..., ::-1, ::-1])


def _conv_mean(dy: Array, cache: Any, right: Backward) -> Array:
    return right(dy, cache)[1] / max(1, dy.size // len(cache.w))


given("conv-dw-mean", "conv2d", C.CONSTANT_FACTOR, _DW, _conv_mean)
given("dw over N", "conv2d", C.BATCH_REDUCTION, _DW, lambda dy, cache, right: right(dy, cache)[1] / max(len(dy), 1))
given("db times N", "conv2d", C.BATCH_REDUCTION, _DB, lambda dy, cache, right: right(dy, cache)[2] * len(dy))
change("db counted thrice", "conv2d", C.CONSTANT_FACTOR, _DB, lambda g: g * 3)


def _assigned(dy: Array, cache: Any, *, tap_by_tap: bool) -> Array:
    """Return dx with assignments instead of sums, window by window or (col2im-assign) tap by tap."""
    x, w, _, rows, columns, groups = cache.kept
    size = (axis.before + axis.size + axis.after for axis in (rows, columns))
    padded = np.zeros((*x.shape[:2], *size), x.dtype)
    parts: dict[tuple[int, ...], Array] = {}
    for i, j, p, q in np.ndindex(rows.out, columns.out, rows.kernel, columns.kernel):
        by_group = dy[:, :, i, j].reshape(len(x), groups, -1)
        filters = w[:, :, p, q].reshape(groups, -1, w.shape[1])
        parts[(p, q, i, j) if tap_by_tap else (i, j, p, q)] = np.einsum("ngf,gfc->ngc", by_group, filters)
    for key in sorted(parts):
        p, q, i, j = key if tap_by_tap else (*key[2:], *key[:2])
        h, v = i * rows.stride + p * rows.dilation, j * columns.stride + q * columns.dilation
        padded[:, :, h, v] = parts[key].reshape(x.shape[:2])
    return padded[:, :, rows.before : rows.before + rows.size, columns.before : columns.before + columns.size].copy()


given("dx assigned", "conv2d", C.OVERLAP_ASSIGNED, _DX, lambda dy, cache, _: _assigned(dy, cache, tap_by_tap=False))
given("col2im-assign", "conv2d", C.OVERLAP_ASSIGNED, _DX, lambda dy, cache, _: _assigned(dy, cache, tap_by_tap=True))


def _last_window(dy: Array, cache: Any, right: Backward) -> Array:
    return right(only(dy, (0, 2, 3), -1), cache)[1]


given("dw assigned", "conv2d", C.OVERLAP_ASSIGNED, _DW, _last_window)


def _over_others(dy: Array, right: Array) -> Array:
    """Return dy summed over all axes except a wrong one that has the filters' length."""
    for axis in range(dy.ndim):
        if axis != 1 and dy.shape[axis] == len(right):
            return dy.sum(axis=tuple(a for a in range(dy.ndim) if a != axis))
    return right


given(
    "db over other axes",
    "conv2d",
    C.NOT_REDUCED,
    _DB,
    lambda dy, cache, right: _over_others(dy, right(dy, cache)[2]) if cache.b is not None else None,
)
change("dw cut to whole numbers", "conv2d", C.TRUNCATED, _DW, np.trunc)
change("dw through float32", "conv2d", C.ROUNDED_TO_FLOAT32, _DW, lambda g: g.astype(np.float32).astype(g.dtype))
