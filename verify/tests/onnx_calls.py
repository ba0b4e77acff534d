"""The calls of our layers that the operators of ONNX stand for.

A translator takes the inputs and the attributes of an operator, with the defaults of ONNX, and returns the call. It has
parameters for what the cases use. Any other attribute is a TypeError.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from cnn_core import log_softmax, silu

Array = NDArray[Any]


class Absent(Exception):
    """No layer of ours does this."""


class Call(NamedTuple):
    """A call of a layer. `results(y, cache)` are the outputs of the case: the first ones, if we have not all."""

    layer: str
    arrays: tuple[Array | None, ...]
    options: Mapping[str, Any] = {}
    results: Callable[[Array, Any], tuple[Array, ...]] = lambda y, cache: (y,)


def plain(layer: str) -> Callable[..., Call]:
    """Translate an operator with the arrays of the layer and without attributes."""
    return lambda *arrays: Call(layer, arrays)


def floating(x: Array) -> Array:
    """Return whole numbers in float64. For a layer that only copies or chooses entries they are as good."""
    return x if x.dtype.kind == "f" else x.astype(np.float64)


def ends(total: int, auto_pad: str) -> tuple[int, int]:
    """Share a padding among both ends of an axis."""
    less, more = total // 2, total - total // 2
    return (less, more) if auto_pad == "SAME_UPPER" else (more, less)


def windows(
    sizes: Any, kernel: Any, strides: Any = None, pads: Any = None, dilations: Any = None, auto_pad: str = "NOTSET"
) -> dict[str, Any]:
    """Return the options of windows. ONNX lists all pads in front, then all behind."""
    axes = range(len(kernel))
    strides, pads = strides or [1 for _ in axes], pads or [0 for _ in axes] * 2
    padding = [(pads[k], pads[k + len(kernel)]) for k in axes]
    if auto_pad.startswith("SAME"):
        totals = [(-(-sizes[k] // strides[k]) - 1) * strides[k] + kernel[k] - sizes[k] for k in axes]
        padding = [ends(max(0, total), auto_pad) for total in totals]
    found = {"stride": tuple(strides), "padding": tuple(padding)}
    return {**found, "dilation": tuple(dilations)} if dilations else found


def also_of_rows(translate: Callable[..., Call]) -> Callable[..., Call]:
    """A row is an image of height 1, and so is its kernel."""

    def translated(*arrays: Array, **attributes: Any) -> Call:
        if arrays[0].ndim != 3:
            return translate(*arrays, **attributes)
        longer = {name: [1, *value] for name, value in attributes.items()}
        call = translate(*(array[:, :, None] for array in arrays), **longer)
        return call._replace(results=lambda y, cache: (y[:, :, 0],))

    return translated


def conv(x: Array, w: Array, *, kernel_shape: Any = None, **window: Any) -> Call:
    """No case has groups or a bias, except those of CausalConvWithState."""
    return Call("conv2d", (x, w), windows(x.shape[2:], w.shape[2:], **window))


def causal_conv(x: Array, w: Array, b: Any = None, state: Any = None, *, activation: str = "none") -> Call:
    """Each channel has its own kernel, and zeros or a state before its first entry."""
    before = w.shape[2] - 1 if state is None else 0
    x = x if state is None else np.concatenate([state, x], axis=2)
    options = {"groups": len(w), "padding": ((0, 0), (before, 0))}
    active = silu.fast.forward if activation in ("silu", "swish") else lambda y: (y, None)
    return Call("conv2d", (x[:, :, None], w[:, :, None], b), options, lambda y, cache: (active(y[:, :, 0])[0],))


def conv_transpose(
    x: Array,
    w: Array,
    *,
    group: int = 1,
    kernel_shape: Any = None,
    strides: Any = None,
    pads: Any = None,
    dilations: Any = None,
    auto_pad: str = "NOTSET",
    output_shape: Any = None,
    output_padding: Any = None,
) -> Call:
    """A wanted size says how much to crop, or how much is missing behind."""
    s, behind = strides or [1, 1], output_padding or [0, 0]
    options = windows(x.shape[2:], w.shape[2:], s, pads, dilations)
    wanted = output_shape or (auto_pad != "NOTSET" and [x.shape[2] * s[0], x.shape[3] * s[1]])
    if wanted:
        totals = [(x.shape[2 + k] - 1) * s[k] + w.shape[2 + k] + behind[k] - wanted[k] for k in (0, 1)]
        options["padding"] = tuple(ends(max(0, total), auto_pad) for total in totals)
        behind = [behind[k] + max(0, -totals[k]) for k in (0, 1)]
    return Call("conv_transpose2d", (x, w), {**options, "groups": group, "output_padding": tuple(behind)})


def average_pool(x: Array, *, kernel_shape: Any, ceil_mode: int = 0, count_include_pad: int = 0, **window: Any) -> Call:
    options: dict[str, Any] = {"ceil_mode": bool(ceil_mode), "count_include_pad": bool(count_include_pad)}
    options |= {"kernel_size": tuple(kernel_shape), **windows(x.shape[2:], kernel_shape, **window)}
    return Call("avg_pool2d", (x,), options)


def max_pool(x: Array, *, kernel_shape: Any, ceil_mode: int = 0, storage_order: int = 0, **window: Any) -> Call:
    """ONNX counts the winners of a plane row by row, or column by column with storage_order=1."""

    def results(y: Array, cache: Any) -> tuple[Array, ...]:
        H, W = x.shape[2:]
        by_column = cache.indices % W * H + cache.indices // W
        return y.astype(x.dtype), by_column if storage_order else cache.indices

    options = {"kernel_size": tuple(kernel_shape), "ceil_mode": bool(ceil_mode)}
    return Call("max_pool2d", (floating(x),), {**options, **windows(x.shape[2:], kernel_shape, **window)}, results)


def max_unpool(x: Array, indices: Array, output_shape: Any = None, *, kernel_shape: Any, strides: Any) -> Call:
    options: dict[str, Any] = {"kernel_size": tuple(kernel_shape), "stride": tuple(strides)}
    options |= {} if output_shape is None else {"output_size": tuple(output_shape[2:].tolist())}
    return Call("max_unpool2d", (x, indices), options)


def global_pool(layer: str) -> Callable[..., Call]:
    return lambda x: Call(layer, (x,), {"output_size": 1})


def batch_norm(
    x: Array,
    w: Array,
    b: Array,
    mean: Array,
    variance: Array,
    *,
    epsilon: float = 1e-5,
    momentum: float = 0.9,
    training_mode: int = 0,
) -> Call:
    def results(y: Array, cache: Any) -> tuple[Array, ...]:
        pairs = ((mean, cache.mean), (variance, cache.variance)) if training_mode else ()
        return (y, *(old * momentum + new * (1 - momentum) for old, new in pairs))

    options = {} if training_mode else {"running_mean": mean, "running_variance": variance}
    return Call("batch_norm2d", (x, w, b), {**options, "eps": epsilon}, results)


def mean_variance_normalization(x: Array) -> Call:
    """By default over the images and both axes of each channel."""
    return Call("batch_norm2d", (x,), {"eps": 0.0})


def normalization(layer: str) -> Callable[..., Call]:
    """Over the axes from `axis` on."""
    return lambda *arrays, axis=-1, epsilon=1e-5: Call(
        layer, arrays, {"normalized_shape": arrays[0].shape[axis:], "eps": epsilon}
    )


def group_norm(x: Array, w: Array, b: Array, *, num_groups: int, epsilon: float = 1e-5) -> Call:
    return Call("group_norm", (x, w, b), {"num_groups": num_groups, "eps": epsilon})


def instance_norm(x: Array, w: Array, b: Array, *, epsilon: float = 1e-5) -> Call:
    return Call("instance_norm2d", (x, w, b), {"eps": epsilon})


def along_axis(layer: str) -> Callable[..., Call]:
    return lambda x, axis=-1: Call(layer, (x,), {"axis": axis})


def cross_entropy(
    x: Array, labels: Array, weight: Any = None, *, reduction: str = "mean", ignore_index: int = -100
) -> Call:
    """The second output is the logarithms of the probabilities."""
    options = {"weight": weight, "reduction": reduction, "ignore_index": ignore_index}
    results = lambda y, cache: (y, log_softmax.fast.forward(x, axis=1)[0])  # noqa: E731
    return Call("softmax_cross_entropy", (x, labels), options, results)


def leaky_relu(x: Array, *, alpha: float = 0.01) -> Call:
    return Call("leaky_relu", (x,), {"negative_slope": alpha})


def elu(x: Array, *, alpha: float = 1.0) -> Call:
    return Call("elu", (x,), {"alpha": alpha})


def gelu(x: Array, *, approximate: str = "none") -> Call:
    """Both forms are so close that a case may not tell them apart."""
    if approximate != "tanh":
        raise Absent("gelu is the tanh form")
    return Call("gelu", (x,))


def swish(x: Array, *, alpha: float = 1.0) -> Call:
    """x * sigmoid(alpha * x)."""
    return Call("silu", (alpha * x,), {}, lambda y, cache: (y / alpha,))


def hard_sigmoid(x: Array, *, alpha: float = 0.2, beta: float = 0.5) -> Call:
    """Ours is clip(x/6 + 1/2). At 6*(alpha*x + beta - 1/2) that is clip(alpha*x + beta)."""
    return Call("hardsigmoid", (6 * (alpha * x + (beta - 0.5)),))


def hard_swish(x: Array) -> Call:
    return Call("hardsigmoid", (x,), {}, lambda y, cache: (x * y,))


def prelu(x: Array, slope: Array) -> Call:
    """The slope may have any shape that broadcasts: each entry of x is taken for a channel of its own."""
    w = np.broadcast_to(slope, x.shape).reshape(-1)
    return Call("prelu", (x.reshape(1, -1), w), {}, lambda y, cache: (y.reshape(x.shape),))


def dropout(x: Array, ratio: Any = 0.5, training: Any = False, *, mask: Any = None, seed: int = 0) -> Call:
    if not training:
        raise Absent("in evaluation the layer is left out")
    if mask is None:
        raise Absent("the mask is drawn, and is no output")
    return Call("dropout", (x, mask), {"p": float(ratio)})


def gemm(
    a: Array, b: Array, c: Any = None, *, alpha: float = 1.0, beta: float = 1.0, transA: int = 0, transB: int = 0
) -> Call:
    """alpha * a @ b + beta * c, where a and b may have to be transposed. c must be one row."""
    x, w = a.T if transA else a, alpha * (b if transB else b.T)
    return Call("linear", (x, w, None if c is None else np.broadcast_to(beta * c, (1, len(w)))[0]))


def matmul(a: Array, b: Array) -> Call:
    if b.ndim > 2:
        raise Absent("linear has one matrix")
    return Call("linear", (a, b.reshape(len(b), -1).T), {}, lambda y, cache: (y.reshape(a.shape[:-1] + b.shape[1:]),))


def flatten(x: Array, *, axis: int = 1) -> Call:
    if axis % x.ndim != 1:
        raise Absent("flatten keeps the first axis alone")
    return Call("flatten", (x,))


def concat(*arrays: Array, axis: int) -> Call:
    return Call("concat", arrays, {"axis": axis})


def col2im(x: Array, image_shape: Array, block_shape: Array, **window: Any) -> Call:
    options = windows(image_shape, block_shape, **window)
    return Call("fold2d", (x,), {"output_size": tuple(image_shape), "kernel_size": tuple(block_shape), **options})


def depth_to_space(x: Array, *, blocksize: int, mode: str = "DCR") -> Call:
    if mode != "CRD":
        raise Absent("pixel_shuffle has the channel in front")
    return Call("pixel_shuffle", (x,), {"upscale_factor": blocksize})


def of_images(values: Any, axes: Any, other: Any) -> list[Any]:
    """Return the values of the height and of the width. Those of images and channels must be `other`, or absent."""
    by_axis = dict(zip([0, 1, 2, 3] if axes is None else [axis % 4 for axis in axes], values, strict=True))
    if not all(by_axis.get(axis, other) == other for axis in (0, 1)):
        raise Absent("images and channels are left alone")
    return [by_axis.get(axis, other) for axis in (2, 3)]


def pad(x: Array, pads: Array, value: Any = None, axes: Any = None, *, mode: str = "constant") -> Call:
    sides = list(zip(*pads.reshape(2, -1).tolist(), strict=True))
    options: dict[str, Any] = {"pad": tuple(of_images(sides, axes, (0, 0)))}
    options |= {"mode": {"edge": "replicate", "wrap": "circular"}.get(mode, mode)}
    options |= {} if value is None else {"value": float(value)}
    return Call("pad2d", (floating(x),), options, lambda y, cache: (y.astype(x.dtype),))


def resize(
    x: Array,
    roi: Any = None,
    scales: Any = None,
    sizes: Any = None,
    *,
    mode: str = "nearest",
    axes: Any = None,
    coordinate_transformation_mode: str = "half_pixel",
    nearest_mode: str = "round_prefer_floor",
) -> Call:
    """ONNX has several rules for the nearest entry. Where one picks other entries than ours, the numbers differ."""
    if mode == "cubic":
        raise Absent("no layer is bicubic")
    options: dict[str, Any] = {"scale_factor": None if scales is None else tuple(of_images(scales.tolist(), axes, 1.0))}
    options |= {"size": None if sizes is None else tuple(of_images(sizes.tolist(), axes, 1))}
    if mode == "nearest":
        return Call("upsample_nearest2d", (x,), options)
    if coordinate_transformation_mode not in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        raise Absent(f"no layer has the coordinates {coordinate_transformation_mode}")
    options |= {"align_corners": coordinate_transformation_mode == "align_corners"}
    return Call("upsample_bilinear2d", (x,), options)


def upsample(x: Array, scales: Array, *, mode: str = "nearest") -> Call:
    return resize(x, None, scales, mode=mode)


TRANSLATORS: dict[str, Callable[..., Call]] = {
    "Add": plain("add"),
    "AveragePool": also_of_rows(average_pool),
    "BatchNormalization": batch_norm,
    "CausalConvWithState": causal_conv,
    "Col2Im": col2im,
    "Concat": concat,
    "Conv": conv,
    "ConvTranspose": also_of_rows(conv_transpose),
    "DepthToSpace": depth_to_space,
    "Dropout": dropout,
    "Elu": elu,
    "Flatten": flatten,
    "Gelu": gelu,
    "Gemm": gemm,
    "GlobalAveragePool": global_pool("adaptive_avg_pool2d"),
    "GlobalMaxPool": global_pool("adaptive_max_pool2d"),
    "GroupNormalization": group_norm,
    "HardSigmoid": hard_sigmoid,
    "HardSwish": hard_swish,
    "InstanceNormalization": instance_norm,
    "LayerNormalization": normalization("layer_norm"),
    "LeakyRelu": leaky_relu,
    "LogSoftmax": along_axis("log_softmax"),
    "MatMul": matmul,
    "MaxPool": also_of_rows(max_pool),
    "MaxUnpool": max_unpool,
    "MeanVarianceNormalization": mean_variance_normalization,
    "PRelu": prelu,
    "Pad": pad,
    "RMSNormalization": normalization("rms_norm"),
    "Relu": plain("relu"),
    "Resize": resize,
    "Sigmoid": plain("sigmoid"),
    "Softmax": along_axis("softmax"),
    "SoftmaxCrossEntropyLoss": cross_entropy,
    "Softplus": plain("softplus"),
    "Sum": plain("add"),
    "Swish": swish,
    "Tanh": plain("tanh"),
    "Upsample": upsample,
}
