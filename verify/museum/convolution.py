"""Bugs of convolutions, in the gradient of x or in all gradients."""

from __future__ import annotations

import numpy as np

from cnn_core import Implementation
from verify.checker.point import Array
from verify.diagnosis.causes import CauseCode as C
from verify.layers._scopes import Sliding
from verify.museum._exhibit import Call, Gradients, gradient, packed, state
from verify.museum._windows import axes, reads


def _padded_dx(dy: Array, call: Call) -> Array:
    """Return the gradient of x with its padding."""
    x, w, b = call.arrays
    pads = [(axis.before, axis.after) for axis in axes(call)]
    dx: Array = call.elsewhere(dy, np.pad(x, ((0, 0), (0, 0), *pads)), w, b, padding=0)[0]
    return dx


def _cropped(padded: Array, top: int, left: int, call: Call) -> Array:
    """Return the part of a padded array that has the size of x and begins there."""
    height, width = call.arrays[0].shape[2:]
    return padded[:, :, top : top + height, left : left + width]


def _leftover(axis: Sliding) -> int:
    """Return the number of entries behind the last window."""
    return (axis.size + axis.before + axis.after - axis.dilation * (axis.kernel - 1) - 1) % axis.stride


@gradient(
    "conv-dx-nostride",
    "conv2d",
    wrong="dx is added at the windows of stride 1: at h, not at h * stride",
    shows="stride > 1",
    source="enggen/Deep-Learning-Coursera#7; Kulbear/deep-learning-coursera#34",
    code=C.STRIDE_IGNORED,
)
def _conv_dx_nostride(dy: Array, call: Call) -> Gradients:
    return call.instead(dy, dx=call.elsewhere(dy, stride=1)[0])


@gradient(
    "conv-dx-leftover",
    "conv2d",
    wrong="the array of dy with gaps lacks the r entries behind the last window, and dx is moved by r",
    shows="r > 0: the stride does not divide H + padding - window",
    source="flagos-ai/FlagGems#1576",
    code=C.SHIFTED,
)
def _conv_dx_leftover(dy: Array, call: Call) -> Gradients:
    rows, columns = axes(call)
    moved = np.roll(_padded_dx(dy, call), (_leftover(rows), _leftover(columns)), (2, 3))
    return call.instead(dy, dx=_cropped(moved, rows.before, columns.before, call))


@gradient(
    "conv-dx-leftover-shape",
    "conv2d",
    wrong="dx lacks the r entries behind the last window: 31 rows for 32",
    shows="r > 0: the stride does not divide H + padding - window",
    source="torch/DEPRECEATED-torch7-distro#20; f-dangel/backpack#30; PKUFlyingPig/CMU10-714#6",
    code=C.WRONG_SHAPE,
    silent=False,
)
def _conv_dx_leftover_shape(dy: Array, call: Call) -> Gradients:
    kept = [slice(max(0, axis.size - _leftover(axis))) for axis in axes(call)]
    return call.instead(dy, dx=lambda dx: dx[(..., *kept)])


@gradient(
    "conv-dx-nodilation",
    "conv2d",
    wrong="dx is added at the taps of dilation 1: at i, not at i * dilation",
    shows="dilation > 1",
    source="jax-ml/jax#567; pytorch/pytorch#16012, #13008",
    code=C.DILATION_IGNORED,
)
def _conv_dx_nodilation(dy: Array, call: Call) -> Gradients:
    pads = tuple((axis.before, axis.after) for axis in axes(call))
    return call.instead(dy, dx=call.elsewhere(dy, dilation=1, padding=pads)[0])


@gradient(
    "conv-rot-buffer",
    "conv2d",
    wrong="for dx the mirrored kernel, kH x kW, is put into an array of kW x kH",
    shows="kH != kW",
    source="mlpack/mlpack#3376",
    code=C.RAISED,
    silent=False,
)
def _conv_rot_buffer(dy: Array, call: Call) -> Gradients:
    x, w, b = call.arrays
    mirrored = np.zeros((*w.shape[:2], w.shape[3], w.shape[2]), w.dtype)
    mirrored[...] = w[..., ::-1, ::-1]
    return call.instead(dy, dx=call.elsewhere(dy, x, mirrored[..., ::-1, ::-1], b)[0])


@gradient(
    "conv-rot180",
    "conv2d",
    wrong="dx is computed with the kernel mirrored once too often",
    shows="the kernel is larger than 1x1",
    source="nntrainer/nntrainer#705",
    code=C.KERNEL_NOT_FLIPPED,
)
def _conv_rot180(dy: Array, call: Call) -> Gradients:
    x, w, b = call.arrays
    return call.instead(dy, dx=call.elsewhere(dy, x, w[..., ::-1, ::-1].copy(), b)[0])


@gradient(
    "conv-wrong-index",
    "conv2d",
    wrong="each row (there: depth) of dx is assigned at the index of the last row of y that reads it, not at its own",
    shows="along the height the kernel is larger than 1, or there is a stride or padding",
    source="NervanaSystems/neon#111",
)
def _conv_wrong_index(dy: Array, call: Call) -> Gradients:
    rows, _ = axes(call)
    read = np.array([reads(rows, tap, dy.shape[2]) for tap in range(rows.kernel)])

    def misplaced(dx: Array) -> Array:
        wrong, last = np.zeros_like(dx), 0
        for h in range(rows.size):
            last = max(np.flatnonzero((read == h).any(axis=0)).tolist(), default=last)
            wrong[:, :, last : last + 1] = dx[:, :, h : h + 1]
        return wrong

    return call.instead(dy, dx=misplaced)


@gradient(
    "conv-asym-crop",
    "conv2d",
    wrong="the trailing padding is cropped in front of dx, not the leading one",
    shows="the padding in front is not that behind",
    source="a pattern; related: ROCm/MIOpen#179",
    code=C.PADDING_CROPPED,
)
def _conv_asym_crop(dy: Array, call: Call) -> Gradients:
    rows, columns = axes(call)
    return call.instead(dy, dx=_cropped(_padded_dx(dy, call), rows.after, columns.after, call))


@state(
    "conv-dout-strides",
    "conv2d",
    wrong="the memory of dy is read as if dy were packed, whatever its strides",
    shows="dy is a view with gaps, or not in C order",
    source="pytorch/pytorch#708; fla-org/flash-linear-attention#871",
    code=C.DY_LAYOUT,
)
def _conv_dout_strides(version: Implementation) -> Implementation:
    return version._replace(backward=lambda dy, cache: version.backward(packed(dy), cache))


@gradient(
    "col2im-assign",
    "conv2d",
    wrong="col2im assigns, tap by tap: of several windows that read an entry the one of the last tap counts",
    shows="windows overlap: stride < kernel",
    source="a pattern; AlexeyAB/darknet#8660 (proposed, not merged)",
    code=C.OVERLAP_ASSIGNED,
)
def _col2im_assign(dy: Array, call: Call) -> Gradients:
    x, w, b = call.arrays
    dx = np.zeros_like(x)
    for p, q in np.ndindex(w.shape[2:]):
        tap, ones = np.zeros_like(w), np.zeros_like(w)
        tap[:, :, p, q], ones[:, :, p, q] = w[:, :, p, q], 1
        read = call.elsewhere(np.ones_like(dy), x, ones, b)[0] != 0
        dx = np.where(read, call.elsewhere(dy, x, tap, b)[0], dx)
    return call.instead(dy, dx=dx)
