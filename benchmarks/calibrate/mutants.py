"""Backwards that are wrong in a known way: mutations of this project's layers, each with the cause it must be given.

The museum's bugs of these layers come first (their slugs are names here); the rest are the patterns that
`verify.gradcheck.causes` lists. A mutation that does not apply to a case leaves the gradient right there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from cnn_core import Implementation, conv2d, max_pool2d
from verify.gradcheck.causes import CauseCode as C
from verify.museum import EXHIBITS

Array = Any
Gradients = tuple[Any, ...]
Backward = Callable[[Array, Any], Gradients]


class Mutant(NamedTuple):
    """A wrong version of a layer's implementation, and the code it must get.

    `battery`: its gradients are right as gradcheck calls it, and only the contracts can tell.
    """

    name: str
    layer: str
    code: C
    mutate: Callable[[Implementation], Implementation]
    battery: bool = False


MUTANTS: list[Mutant] = []


def _add(name: str, layer: str, code: C, wrong: Callable[[Array, Any, Backward], Gradients]) -> None:
    """A mutant whose backward is wrong(dy, cache, right), `right` being the layer's own."""

    def mutate(implementation: Implementation) -> Implementation:
        def backward(dy: Array, cache: Any) -> Gradients:
            return tuple(wrong(dy, cache, implementation.backward))

        return implementation._replace(backward=backward)

    MUTANTS.append(Mutant(f"{layer}: {name}", layer, code, mutate))


def _change(name: str, layer: str, code: C, which: int, change: Callable[[Array], Array]) -> None:
    """One gradient, of those that are not None, becomes change(gradient)."""
    _add(name, layer, code, lambda dy, cache, right: put(right(dy, cache), which, change))


def put(gradients: Sequence[Any], which: int, change: Callable[[Array], Array]) -> Gradients:
    """The gradients with one of them changed, if it is not None."""
    return tuple(change(g) if i == which and g is not None else g for i, g in enumerate(gradients))


def _given(name: str, layer: str, code: C, which: int, wrong: Callable[[Array, Any, Backward], Array]) -> None:
    """One gradient becomes wrong(dy, cache, right)."""
    _add(
        name,
        layer,
        code,
        lambda dy, cache, right: put(right(dy, cache), which, lambda g: np.asarray(wrong(dy, cache, right))),
    )


def _of_dy(name: str, layer: str, code: C, which: int, change: Callable[[Array], Array]) -> None:
    """One gradient is that of another dy."""
    _given(name, layer, code, which, lambda dy, cache, right: right(np.array(change(dy), order="C"), cache)[which])


def _whole(name: str, layer: str, code: C, mutate: Any, battery: bool = False) -> None:
    MUTANTS.append(Mutant(f"{layer}: {name}", layer, code, mutate, battery))


def _left_out(array: Array, axis: int) -> Array:
    """Zeros in the last slice along an axis."""
    cut = array.copy()
    if cut.ndim > axis:
        np.moveaxis(cut, axis, 0)[-1:] = 0
    return cut


def _only(array: Array, axes: tuple[int, ...], which: int) -> Array:
    """Zeros but at one position along axes."""
    kept = np.zeros_like(array)
    place = tuple(slice(which, which + 1 or None) if axis in axes else slice(None) for axis in range(array.ndim))
    kept[place] = array[place]
    return kept


def _features_first(gradient: Array) -> Array:
    if gradient.ndim < 2 or not gradient.size:
        return gradient
    return gradient.reshape(len(gradient), -1).T.reshape(gradient.shape).copy()


def _rolled(array: Array, by: int, axis: int) -> Array:
    return np.roll(array, by, axis) if array.ndim > axis else array


# Every layer: what can be wrong with any gradient.
_LAYERS = {"conv2d": 3, "flatten": 1, "linear": 3, "max_pool2d": 1, "relu": 1, "softmax_cross_entropy": 1}
for _layer, _count in _LAYERS.items():
    for _which in range(_count):
        _change(f"gradient {_which} zero", _layer, C.ZERO, _which, np.zeros_like)
        _change(f"gradient {_which} negated", _layer, C.SIGN, _which, np.negative)
    _change("dx half as much again", _layer, C.CONSTANT_FACTOR, 0, lambda g: g * 1.5)
    _change("dx not finite", _layer, C.NOT_FINITE, 0, lambda g: np.full_like(g, np.inf))
    _change("dx as None", _layer, C.NO_GRADIENT, 0, lambda g: None)
    _change("dx flat and one more", _layer, C.WRONG_SHAPE, 0, lambda g: np.append(g.ravel(), 0.0))
    _change("dx in float32", _layer, C.WRONG_DTYPE, 0, lambda g: g.astype(np.float32))
    _add("one gradient too many", _layer, C.GRADIENT_COUNT, lambda dy, cache, right: (*right(dy, cache), dy))
    _whole(
        "no tuple",
        _layer,
        C.GRADIENT_COUNT,
        lambda i: i._replace(backward=lambda dy, cache: iter(i.backward(dy, cache))),
    )
for _layer in ("conv2d", "linear", "max_pool2d", "relu", "flatten"):
    _of_dy("dx for dy = 1", _layer, C.UPSTREAM_IGNORED, 0, np.ones_like)
    _of_dy("dx of the last image alone", _layer, C.ONE_IMAGE_ONLY, 0, lambda dy: _only(dy, (0,), -1))


def _accumulating(implementation: Implementation) -> Implementation:
    """pool-dirty-buffer: gradients go into a buffer that is never zeroed."""
    buffers: dict[Any, Array] = {}

    def backward(dy: Array, cache: Any) -> Gradients:
        def added(g: Array) -> Array:
            buffers[g.shape] = buffers.get(g.shape, 0) + g
            return buffers[g.shape].copy()

        return put(implementation.backward(dy, cache), 0, added)

    return implementation._replace(backward=backward)


def _random(implementation: Implementation) -> Implementation:
    generator = np.random.default_rng(0)

    def noisy(g: Array) -> Array:
        return g + generator.integers(1, 99, g.shape)

    return implementation._replace(backward=lambda dy, cache: put(implementation.backward(dy, cache), 0, noisy))


def _late(implementation: Implementation) -> Implementation:
    """The cache is that of the forward before."""
    caches: list[Any] = []

    def forward(*arrays: Any, **options: Any) -> Any:
        y, cache = implementation.forward(*arrays, **options)
        caches[:] = [*caches[-1:], cache]
        return y, (caches[0], cache)

    def backward(dy: Array, cache: Any) -> Gradients:
        before, own = cache
        try:
            return implementation.backward(dy, before)
        except (TypeError, ValueError, IndexError):  # of another shape
            return implementation.backward(dy, own)

    return implementation._replace(forward=forward, backward=backward)


def _latest(implementation: Implementation) -> Implementation:
    """stale-cache: the cache is that of the latest forward, whichever it was."""
    caches: list[Any] = []

    def forward(*arrays: Any, **options: Any) -> Any:
        y, cache = implementation.forward(*arrays, **options)
        caches[:] = [cache]
        return y, None

    return implementation._replace(forward=forward, backward=lambda dy, cache: implementation.backward(dy, caches[0]))


def _overwriting(implementation: Implementation) -> Implementation:
    def backward(dy: Array, cache: Any) -> Gradients:
        gradients = implementation.backward(dy, cache)
        dy *= 2
        return gradients

    return implementation._replace(backward=backward)


def _packed(implementation: Implementation) -> Implementation:
    """conv-dout-strides, maxpool-dout-strides: dy is read in the order of its memory."""

    def backward(dy: Array, cache: Any) -> Gradients:
        return implementation.backward(dy.ravel(order="K").reshape(dy.shape), cache)

    return implementation._replace(backward=backward)


def _arrays_packed(implementation: Implementation) -> Implementation:
    def backward(dy: Array, cache: Any) -> Gradients:
        return implementation.backward(dy, cache._replace(x=cache.x.ravel(order="K").reshape(cache.x.shape)))

    return implementation._replace(backward=backward)


def _kept(implementation: Implementation) -> Implementation:
    """The gradient is dy's own memory."""
    return implementation._replace(
        backward=lambda dy, cache: (dy.reshape(implementation.backward(dy, cache)[0].shape),)
    )


for _layer in _LAYERS:
    if _layer != "softmax_cross_entropy":  # whose oracle is not exact: what differs from call to call is INCONCLUSIVE
        _whole("accumulates", _layer, C.ACCUMULATES, _accumulating)
        _whole("dx with noise", _layer, C.RANDOM, _random)
    _whole("dy written to", _layer, C.INPUT_OVERWRITTEN, _overwriting)
for _layer in ("conv2d", "linear", "relu", "max_pool2d", "softmax_cross_entropy"):
    _whole("the latest forward's cache", _layer, C.STALE_CACHE, _latest, battery=True)
for _layer in ("conv2d", "linear"):
    _whole("the cache before", _layer, C.STALE_CACHE, _late)
    _whole("x read in the order of its memory", _layer, C.LAYOUT, _arrays_packed, battery=True)
for _layer in ("conv2d", "linear", "max_pool2d", "relu"):
    _whole("dy read in the order of its memory", _layer, C.DY_LAYOUT, _packed, battery=True)
_whole("dx is a view of dy", "flatten", C.ALIASED, _kept, battery=True)

# Convolution.
_DX, _DW, _DB = 0, 1, 2


def _conv(dy: Array, cache: Any, **changes: Any) -> Gradients:
    """The naive backward with another cache: in both versions the same numbers."""
    return conv2d.naive.backward(dy, conv2d._NaiveCache(*cache._replace(**changes)))


def _axes(cache: Any, **changes: int) -> dict[str, Any]:
    return {"rows": cache.rows._replace(**changes), "columns": cache.columns._replace(**changes)}


def _conv_given(name: str, code: C, which: int, changes: Callable[[Any], dict[str, Any]]) -> None:
    _given(name, "conv2d", code, which, lambda dy, cache, right: _conv(dy, cache, **changes(cache))[which])


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
    "kernel's axes swapped", C.TRANSPOSED, _DX, lambda cache: {"w": cache.w.swapaxes(2, 3).reshape(cache.w.shape)}
)
_change("dw mirrored", "conv2d", C.FLIPPED, _DW, lambda g: g[..., ::-1, ::-1].copy())
_change("dw mirrored along H", "conv2d", C.FLIPPED, _DW, lambda g: g[..., ::-1, :].copy())
_change("dx mirrored", "conv2d", C.FLIPPED, _DX, lambda g: g[..., ::-1, ::-1].copy())
_change("conv-dw-order", "conv2d", C.TRANSPOSED, _DW, lambda g: g.transpose(1, 0, 2, 3).reshape(g.shape).copy())
_change("conv-nonsquare-dw", "conv2d", C.TRANSPOSED, _DW, lambda g: g.swapaxes(2, 3).reshape(g.shape).copy())
_change("dx's H and W swapped", "conv2d", C.TRANSPOSED, _DX, lambda g: g.swapaxes(2, 3).reshape(g.shape).copy())
_change("dx channels last", "conv2d", C.TRANSPOSED, _DX, lambda g: g.transpose(0, 2, 3, 1).reshape(g.shape).copy())
_change("dx features first", "conv2d", C.FEATURES_BATCH_SWAPPED, _DX, _features_first)


def _by_groups(gradient: Array, groups: int, axis: int, order: Callable[[Array], Array]) -> Array:
    if not gradient.size:
        return gradient
    blocks = np.moveaxis(gradient, axis, 0).reshape(groups, -1, *np.delete(gradient.shape, axis))
    return np.moveaxis(order(blocks).reshape(-1, *blocks.shape[2:]), 0, axis).copy()


_given(
    "conv-groups-dw",
    "conv2d",
    C.GROUPS_PERMUTED,
    _DW,
    lambda dy, cache, right: _by_groups(right(dy, cache)[1], cache.groups, 0, lambda b: b[::-1]),
)
_given(
    "dx's groups turned",
    "conv2d",
    C.GROUPS_PERMUTED,
    _DX,
    lambda dy, cache, right: _by_groups(right(dy, cache)[0], cache.groups, 1, lambda b: np.roll(b, 1, 0)),
)
_given(
    "dw's groups interleaved",
    "conv2d",
    C.GROUPS_PERMUTED,
    _DW,
    lambda dy, cache, right: _by_groups(right(dy, cache)[1], cache.groups, 0, lambda b: b.swapaxes(0, 1)),
)


def _leftover(dy: Array, cache: Any, right: Backward) -> Array:
    """conv-dx-leftover: the canvas lacks the rows left over, and dx is rolled by them."""
    left = [
        (a.size + a.before + a.after - a.dilation * (a.kernel - 1) - 1) % a.stride for a in (cache.rows, cache.columns)
    ]
    return np.roll(right(dy, cache)[0], left, (2, 3))


_given("conv-dx-leftover", "conv2d", C.SHIFTED, _DX, _leftover)
_change("dx one row down", "conv2d", C.SHIFTED, _DX, lambda g: np.pad(g, ((0, 0), (0, 0), (1, 0), (0, 0)))[:, :, :-1])
_change("dw rolled along W", "conv2d", C.SHIFTED, _DW, lambda g: _rolled(g, 1, 3))
_of_dy("dw of a dy rolled along H", "conv2d", C.SHIFTED, _DW, lambda dy: _rolled(dy, 1, 2))
_change("dx without its last row", "conv2d", C.REMAINDER_LOST, _DX, lambda g: _left_out(g, 2))
_of_dy("dw without y's last row", "conv2d", C.REMAINDER_LOST, _DW, lambda dy: _left_out(dy, 2))
_of_dy("dx without y's last column", "conv2d", C.REMAINDER_LOST, _DX, lambda dy: _left_out(dy, 3))
_of_dy("dw without the last image", "conv2d", C.REMAINDER_LOST, _DW, lambda dy: _left_out(dy, 0))
_of_dy("conv-batch-assign", "conv2d", C.ONE_IMAGE_ONLY, _DW, lambda dy: _only(dy, (0,), -1))
_of_dy("db of the first image", "conv2d", C.ONE_IMAGE_ONLY, _DB, lambda dy: _only(dy, (0,), 0))
_of_dy("db of the first pixel", "conv2d", C.ONE_POSITION_ONLY, _DB, lambda dy: _only(dy, (2, 3), 0))
_of_dy("dw of the first window", "conv2d", C.ONE_POSITION_ONLY, _DW, lambda dy: _only(dy, (2, 3), 0))
for _which, _name in ((_DX, "dx"), (_DW, "dw")):
    for _axis, _place in ((2, 0), (2, -1), (3, 0), (3, -1)):
        _of_dy(
            f"{_name} of the windows at {_place} along y's axis {_axis}",
            "conv2d",
            C.ONE_POSITION_ONLY,
            _which,
            lambda dy, axis=_axis, place=_place: _only(dy, (axis,), place),
        )
_of_dy(
    "dw for the first dy everywhere",
    "conv2d",
    C.UPSTREAM_BROADCAST,
    _DW,
    lambda dy: np.full_like(dy, dy.flat[0]) if dy.size else dy,
)
_of_dy("dw for the first image's dy", "conv2d", C.UPSTREAM_BROADCAST, _DW, lambda dy: dy[:1] + 0 * dy)
_of_dy(
    "dx of a dy read channels last", "conv2d", C.DY_LAYOUT, _DX, lambda dy: dy.transpose(0, 2, 3, 1).reshape(dy.shape)
)
_of_dy("dw of a dy mirrored", "conv2d", C.DY_LAYOUT, _DW, lambda dy: dy[..., ::-1, ::-1])


def _conv_mean(dy: Array, cache: Any, right: Backward) -> Array:
    return right(dy, cache)[1] / max(1, dy.size // len(cache.w))


_given("conv-dw-mean", "conv2d", C.CONSTANT_FACTOR, _DW, _conv_mean)
_given("dw over N", "conv2d", C.BATCH_REDUCTION, _DW, lambda dy, cache, right: right(dy, cache)[1] / max(len(dy), 1))
_given("db times N", "conv2d", C.BATCH_REDUCTION, _DB, lambda dy, cache, right: right(dy, cache)[2] * len(dy))
_change("db counted thrice", "conv2d", C.CONSTANT_FACTOR, _DB, lambda g: g * 3)
_change("filters of dw shuffled", "conv2d", C.PERMUTED, _DW, lambda g: g[[*range(1, len(g), 2), *range(0, len(g), 2)]])


def _assigned(dy: Array, cache: Any, right: Backward, tap_by_tap: bool) -> Array:
    """dx whose windows assign: one after another, or (col2im-assign) one tap of all of them after another."""
    x, w, _, rows, columns, groups = cache
    padded = np.zeros((*x.shape[:2], rows.padded, columns.padded), x.dtype)
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


_given("dx assigned", "conv2d", C.OVERLAP_ASSIGNED, _DX, lambda *a: _assigned(*a, tap_by_tap=False))
_given("col2im-assign", "conv2d", C.OVERLAP_ASSIGNED, _DX, lambda *a: _assigned(*a, tap_by_tap=True))


def _last_window(dy: Array, cache: Any, right: Backward) -> Array:
    return right(_only(dy, (0, 2, 3), -1), cache)[1]


_given("dw assigned", "conv2d", C.OVERLAP_ASSIGNED, _DW, _last_window)


def _over_others(dy: Array, right: Array) -> Array:
    """dy summed over all axes but another one of the filters' length."""
    for axis in range(dy.ndim):
        if axis != 1 and dy.shape[axis] == len(right):
            return dy.sum(axis=tuple(a for a in range(dy.ndim) if a != axis))
    return right


_given(
    "db over other axes",
    "conv2d",
    C.NOT_REDUCED,
    _DB,
    lambda dy, cache, right: _over_others(dy, right(dy, cache)[2]) if cache.b is not None else None,
)
_change("dw cut to whole numbers", "conv2d", C.TRUNCATED, _DW, np.trunc)
_change("dw through float32", "conv2d", C.ROUNDED_TO_FLOAT32, _DW, lambda g: g.astype(np.float32).astype(g.dtype))

# Linear.
_change("dw transposed", "linear", C.TRANSPOSED, _DW, lambda g: g.T.reshape(g.shape).copy())
_given(
    "dx by w, not by its transpose",
    "linear",
    C.TRANSPOSED,
    _DX,
    lambda dy, cache, right: right(dy, cache._replace(w=np.ascontiguousarray(cache.w.T).reshape(cache.w.shape)))[0],
)
_change("dw over N", "linear", C.CONSTANT_FACTOR, _DW, lambda g: g / 7)
_given(
    "dw averaged over the batch",
    "linear",
    C.BATCH_REDUCTION,
    _DW,
    lambda dy, cache, right: right(dy, cache)[1] / len(dy),
)
_of_dy("dw of the last image", "linear", C.ONE_IMAGE_ONLY, _DW, lambda dy: _only(dy, (0,), -1) if dy.ndim > 1 else dy)
_of_dy("db of the first image", "linear", C.ONE_IMAGE_ONLY, _DB, lambda dy: _only(dy, (0,), 0) if dy.ndim > 1 else dy)
_change("dw cut to whole numbers", "linear", C.TRUNCATED, _DW, np.trunc)
_change("dw through float32", "linear", C.ROUNDED_TO_FLOAT32, _DW, lambda g: g.astype(np.float32).astype(g.dtype))


def _swapped(dy: Array, cache: Any, right: Backward) -> Gradients:
    dx, dw, db = right(dy, cache)
    return (dw, dx, db) if dx.shape == dw.shape else (dx, dw, db)


_add("dx and dw swapped", "linear", C.GRADIENTS_SWAPPED, _swapped)


def _diagonal(dy: Array, cache: Any, right: Backward) -> Array:
    return dy * np.diag(cache.w) if cache.w.shape[0] == cache.w.shape[1] else right(dy, cache)[0]


_given("dx by w's diagonal", "linear", C.DIAGONAL_ONLY, _DX, _diagonal)
_given(
    "db over other axes",
    "linear",
    C.NOT_REDUCED,
    _DB,
    lambda dy, cache, right: (
        None
        if cache.b is None
        else dy.sum(axis=tuple(range(1, dy.ndim)))
        if dy.ndim > 1 and len(dy) == dy.shape[-1]
        else right(dy, cache)[2]
    ),
)
_change("dx features first", "linear", C.FEATURES_BATCH_SWAPPED, _DX, _features_first)
_change("outputs of dw shuffled", "linear", C.PERMUTED, _DW, lambda g: g[[*range(1, len(g), 2), *range(0, len(g), 2)]])
_given(
    "linear-updated-W",
    "linear",
    C.UNKNOWN,
    _DX,
    lambda dy, cache, right: right(dy, cache._replace(w=cache.w - 3 * right(dy, cache)[1]))[0],
)

# Flatten, max pooling, relu.
_whole("flatten-noT", "flatten", C.FEATURES_BATCH_SWAPPED, EXHIBITS["flatten-noT"].mutate)
_change(
    "dx read in columns", "flatten", C.TRANSPOSED, 0, lambda g: g.reshape(len(g), -1).reshape(g.shape, order="F").copy()
)
_change("dx's last slices lost", "flatten", C.REMAINDER_LOST, 0, lambda g: _left_out(g, g.ndim - 1))
_change("dx rolled", "flatten", C.SHIFTED, 0, lambda g: _rolled(g, 1, g.ndim - 1))
_change("images summed", "flatten", C.BATCH_REDUCTION, 0, lambda g: g.sum(axis=0, keepdims=True) + 0 * g)
_whole("maxpool-assign", "max_pool2d", C.OVERLAP_ASSIGNED, EXHIBITS["maxpool-assign"].mutate)


def _pool(wrong: Callable[[Array, Array, Any, dict[str, Any], Array], Array]) -> Callable[..., Implementation]:
    """A pool whose backward is wrong(dy, x, cache, options, right dx)."""

    def mutate(implementation: Implementation) -> Implementation:
        def forward(x: Array, **options: Any) -> Any:
            y, cache = implementation.forward(x, **options)
            return y, (x, cache, options)

        def backward(dy: Array, kept: Any) -> Gradients:
            x, cache, options = kept
            (right,) = implementation.backward(dy, cache)
            return (np.asarray(wrong(dy, x, cache, options, right)),)

        return implementation._replace(forward=forward, backward=backward)

    return mutate


def _by_rule(reward: Callable[[Array], Array]) -> Callable[..., Array]:
    """dx from the entries of each window that are its maximum, rewarded by the rule."""

    def wrong(dy: Array, x: Array, cache: Any, options: Any, right: Array) -> Array:
        dx = np.zeros_like(right)
        for n, c, i, j in np.ndindex(*dy.shape):
            taps = max_pool2d._window(i, j, cache.rows, cache.columns)
            values = np.array([x[n, c, h, v] for h, v in taps])
            for (h, v), share in zip(taps, reward(values == values.max()), strict=True):
                dx[n, c, h, v] += dy[n, c, i, j] * share
        return dx

    return wrong


def _last(tied: Array) -> Array:
    reward = np.zeros(len(tied))
    reward[np.flatnonzero(tied)[-1]] = 1
    return reward


def _in_padding(flat: bool) -> Callable[..., Array]:
    """maxpool-pad-coord: the winner's coordinates, or its flat index, in the padded plane; what is outside is lost."""

    def wrong(dy: Array, x: Array, cache: Any, options: Any, right: Array) -> Array:
        rows, columns = cache.rows, cache.columns
        dx = np.zeros_like(right)
        for n, c, i, j in np.ndindex(*dy.shape):
            h, v = divmod(int(cache.indices[n, c, i, j]), columns.size)
            h, v = h + rows.before, v + columns.before
            if flat:
                place = h * (columns.before + columns.size + columns.after) + v
                h, v = divmod(place, columns.size)
            if h < rows.size and v < columns.size:
                dx[n, c, h, v] += dy[n, c, i, j]
        return dx

    return wrong


def _strideless(dy: Array, x: Array, cache: Any, options: Any, right: Array) -> Array:
    """The winners of windows taken at stride 1."""
    if options.get("padding") == "same" or options.get("ceil_mode"):
        return right
    _, close = max_pool2d.im2col.forward(x, **{**options, "stride": 1})
    indices = close.indices[:, :, : dy.shape[2], : dy.shape[3]]
    if indices.shape != dy.shape:
        return right
    return np.asarray(max_pool2d.im2col.backward(dy, close._replace(indices=indices))[0])


_whole("maxpool-ties-all", "max_pool2d", C.ALL_TIES_REWARDED, _pool(_by_rule(lambda tied: tied)))
_whole("the last maximum wins", "max_pool2d", C.WRONG_TIE_WINNER, _pool(_by_rule(_last)))
_whole("maxima share", "max_pool2d", C.WRONG_TIE_WINNER, _pool(_by_rule(lambda tied: tied / tied.sum())))
_whole("maxpool-pad-coord", "max_pool2d", C.WINNER_IN_PADDING, _pool(_in_padding(flat=False)))
_whole("padded flat index", "max_pool2d", C.WINNER_IN_PADDING, _pool(_in_padding(flat=True)))
_whole("windows at stride 1", "max_pool2d", C.STRIDE_IGNORED, _pool(_strideless))
_of_dy("maxpool-early-return", "max_pool2d", C.ONE_POSITION_ONLY, 0, lambda dy: _only(dy, (2, 3), 0))
_of_dy("maxpool-hw-args", "max_pool2d", C.DY_LAYOUT, 0, lambda dy: dy.swapaxes(2, 3).reshape(dy.shape))
_of_dy("the last row of windows lost", "max_pool2d", C.REMAINDER_LOST, 0, lambda dy: _left_out(dy, 2))
_change("dx's H and W swapped", "max_pool2d", C.TRANSPOSED, 0, lambda g: g.swapaxes(2, 3).reshape(g.shape).copy())
_change("dx one column right", "max_pool2d", C.SHIFTED, 0, lambda g: _rolled(g, 1, 3))
_add("leaky-slope0", "relu", C.UPSTREAM_COPIED, lambda dy, cache, right: (dy.copy(),))
_add("relu-at-0", "relu", C.WRONG_SIDE_OF_KINK, lambda dy, cache, right: (np.where(cache.x >= 0, dy, 0),))
_add(
    "half at 0",
    "relu",
    C.WRONG_SIDE_OF_KINK,
    lambda dy, cache, right: (np.where(cache.x == 0, dy / 2, np.where(cache.x > 0, dy, 0)),),
)
_change("dx features first", "relu", C.FEATURES_BATCH_SWAPPED, 0, _features_first)
_add("mask inverted", "relu", C.UNKNOWN, lambda dy, cache, right: (np.where(cache.x > 0, 0 * dy, dy),))

# Softmax with cross-entropy.
_LOSS = "softmax_cross_entropy"


def _loss(name: str, code: C, wrong: Callable[[Array, Any, Array], Array]) -> None:
    """dx becomes wrong(dy, cache, right dx)."""
    _given(name, _LOSS, code, 0, lambda dy, cache, right: wrong(dy, cache, right(dy, cache)[0]))


def _probabilities(x: Array) -> Array:
    e = np.exp(x - x.real.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


_loss("not averaged", C.BATCH_REDUCTION, lambda dy, cache, g: g * len(g) if cache.reduction == "mean" else g)
_loss("always averaged", C.BATCH_REDUCTION, lambda dy, cache, g: g / max(1, len(g)))
_loss("ce-mean-classes", C.CONSTANT_FACTOR, lambda dy, cache, g: g / g.shape[1])
_loss("softmax-copy", C.UPSTREAM_COPIED, lambda dy, cache, g: dy[:, None] + 0 * g if dy.ndim else g)
_of_dy("ce-reduction", _LOSS, C.UPSTREAM_BROADCAST, 0, lambda dy: dy[:1] + 0 * dy if dy.ndim else dy)
_of_dy("loss for dy = 1", _LOSS, C.UPSTREAM_IGNORED, 0, np.ones_like)
_of_dy("loss of the last image", _LOSS, C.ONE_IMAGE_ONLY, 0, lambda dy: _only(dy, (0,), -1) if dy.ndim else dy)
_loss("dx features first", C.FEATURES_BATCH_SWAPPED, lambda dy, cache, g: _features_first(g))
_loss("logsoftmax-div", C.NOT_FINITE, lambda dy, cache, g: g / np.where(np.arange(g.shape[1]) == 0, 0.0, 1.0))
_loss(
    "the label's term missing",
    C.UNKNOWN,
    lambda dy, cache, g: _probabilities(cache.x) * (dy.reshape(-1, 1) if dy.ndim else dy),
)
_loss("softmax-axis0", C.UNKNOWN, lambda dy, cache, g: g - _probabilities(cache.x) + _probabilities(cache.x.T).T)


# Errors without a structure.
def _scattered(gradient: Array) -> Array:
    generator = np.random.default_rng(gradient.size)
    return gradient + generator.integers(-9, 10, gradient.shape) * (generator.random(gradient.shape) < 0.4)


for _layer, _count in _LAYERS.items():
    for _which in range(_count):
        _change(f"gradient {_which} with scattered errors", _layer, C.UNKNOWN, _which, _scattered)
