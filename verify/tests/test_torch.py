"""PyTorch on what the declared cases do not have: winners, NaN and infinities, what is refused and what is accepted.

test_oracles.py compares y and every gradient over the declared cases.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from cnn_core import Implementation
from verify import strategies
from verify.layers import LAYERS, Case

torch = pytest.importorskip("torch", reason="PyTorch is the oracle of this file: pip install gradcert[oracle]")
F = torch.nn.functional

Array = NDArray[Any]
Sides = tuple[tuple[int, int], tuple[int, int]]


def both(name: str) -> pytest.MarkDecorator:
    """Run a test for all versions of a layer."""
    return pytest.mark.parametrize("layer", LAYERS[name].implementations, ids=lambda version: f"{name}-{version.name}")


def upstream(y: Array, seed: int) -> Array:
    """Integers of y's shape and dtype."""
    return np.random.default_rng(seed).integers(-4, 4, y.shape, endpoint=True).astype(y.dtype)


def seeds() -> st.SearchStrategy[int]:
    """What dy is drawn from."""
    return st.integers(0, 2**32 - 1)


def leaf(array: Array | None) -> Any:
    """A copy of the array as a tensor that collects its gradient; None stays None."""
    return None if array is None else torch.tensor(array, requires_grad=array.dtype.kind == "f")


def same(got: Any, tensor: Any) -> None:
    """Equal in shape, dtype and every entry; None for None."""
    right = None if tensor is None else tensor.detach().numpy()
    np.testing.assert_array_equal(got, right, strict=True)


def agrees(layer: Implementation, case: Case, seed: int, torch_y: Any, leaves: tuple[Any, ...]) -> Any:
    """The layer's output and gradients are PyTorch's; returns the cache."""
    y, cache = layer.forward(*case.arrays, **case.options)
    same(y, torch_y)
    dy = upstream(y, seed)
    torch_y.backward(torch.tensor(dy))
    for gradient, tensor in zip(layer.backward(dy, cache), leaves, strict=True):
        same(gradient, None if tensor is None else tensor.grad)
    return cache


@both("max_pool2d")
@given(case=LAYERS["max_pool2d"].cases())
def test_every_window_has_the_winner_that_it_has_in_pytorch(layer: Implementation, case: Case) -> None:
    x, options = torch.tensor(case.arrays[0]), case.options
    kernel = strategies.both(options["kernel_size"])
    pads = strategies.sides(options["padding"], kernel, strategies.both(options["dilation"]))
    # PyTorch 2.13 speaks of half the dilated window in one of its two checks, and of half the kernel in the other.
    if all(before == after and 2 * before <= k for (before, after), k in zip(pads, kernel, strict=True)):
        options = {**options, "padding": (pads[0][0], pads[1][0])}
        _, winners = F.max_pool2d(x, **options, return_indices=True)
    else:
        winners = winners_of_padded(x, pads, kernel, options)
    _, cache = layer.forward(*case.arrays, **case.options)
    same(cache.indices, winners)


def winners_of_padded(x: Any, pads: Sides, kernel: tuple[int, int], options: dict[str, Any]) -> Any:
    """PyTorch's winners in an image padded with minus infinity, their indices brought back to the unpadded plane.

    With ceil_mode a window counts if it starts in the image or before it. PyTorch takes the rim behind
    for image here, so windows that start there are dropped.
    """
    (top, bottom), (left, right) = pads
    padded = F.pad(x, (left, right, top, bottom), value=-math.inf)
    _, winners = F.max_pool2d(padded, **{**options, "padding": 0}, return_indices=True)
    if options.get("ceil_mode"):
        strides = strategies.both(options["stride"] or kernel)
        rows, columns = (-(-(x.shape[axis] + pads[axis - 2][0]) // strides[axis - 2]) for axis in (2, 3))
        winners = winners[:, :, :rows, :columns]
    width = left + x.shape[3] + right
    return (winners // width - top) * x.shape[3] + winners % width - left


SPECIAL = st.sampled_from([math.nan, -math.inf, math.inf, -1.0, -0.0, 0.0, 1.0])


def special(*shape: int) -> st.SearchStrategy[Array]:
    """Arrays in which NaN, infinities and both zeros abound."""
    return st.lists(SPECIAL, min_size=math.prod(shape), max_size=math.prod(shape)).map(
        lambda entries: np.array(entries).reshape(shape)
    )


@both("max_pool2d")
@given(x=special(1, 1, 4, 5), kernel=st.integers(1, 3), stride=st.integers(1, 3), data=st.data(), seed=seeds())
def test_nan_and_infinities_win_as_in_pytorch(
    layer: Implementation, x: Array, kernel: int, stride: int, data: Any, seed: int
) -> None:
    options = {"kernel_size": (kernel, 2), "stride": stride, "padding": (data.draw(st.integers(0, kernel // 2)), 1)}
    case = Case((x,), {**options, "ceil_mode": data.draw(st.booleans())})
    tensor = leaf(x)
    torch_y, winners = F.max_pool2d(tensor, **case.options, return_indices=True)
    same(agrees(layer, case, seed, torch_y, (tensor,)).indices, winners)


@both("relu")
@given(x=special(7), seed=seeds())
def test_relu_treats_nan_infinities_and_zeros_as_pytorch_does(layer: Implementation, x: Array, seed: int) -> None:
    tensor = leaf(x)
    agrees(layer, Case((x,), {}), seed, F.relu(tensor), (tensor,))


@both("softmax_cross_entropy")
def test_saturated_logits_lose_as_much_as_in_pytorch(layer: Implementation) -> None:
    x, labels = np.array([[1000.0, -1000.0], [800.0, 0.0], [0.0, 800.0], [-math.inf, 0.0]]), np.array([1, 0, 0, 1])
    tensor = leaf(x)
    torch_y = F.cross_entropy(tensor, torch.tensor(labels), reduction="none")
    agrees(layer, Case((x, labels), {"reduction": "none"}), 0, torch_y, (tensor,))


def tensors(arrays: tuple[Any, ...]) -> list[Any]:
    """What PyTorch is to refuse."""
    return [None if array is None else torch.tensor(array) for array in arrays]


def image(*shape: int, dtype: type = np.float64) -> Array:
    """Zeros: what is refused is refused for its shape."""
    return np.zeros(shape, dtype)


REFUSED: dict[str, tuple[str, tuple[Any, ...], dict[str, Any]]] = {
    "same padding with a stride": ("conv2d", (image(1, 1, 5, 5), image(1, 1, 3, 3)), {"padding": "same", "stride": 2}),
    "a window larger than the image": ("conv2d", (image(1, 1, 2, 5), image(1, 1, 3, 3)), {}),
    "a dilated window larger than the image": ("conv2d", (image(1, 1, 5, 4), image(1, 1, 3, 3)), {"dilation": 2}),
    "channels that do not fit": ("conv2d", (image(1, 2, 5, 5), image(1, 3, 3, 3)), {}),
    "groups that do not divide the channels": ("conv2d", (image(1, 3, 5, 5), image(2, 1, 3, 3)), {"groups": 2}),
    "groups that do not divide the filters": ("conv2d", (image(1, 2, 5, 5), image(3, 1, 3, 3)), {"groups": 2}),
    "a bias of another length": ("conv2d", (image(1, 1, 5, 5), image(2, 1, 3, 3), image(1)), {}),
    "weights of another dtype": ("conv2d", (image(1, 1, 5, 5), image(1, 1, 3, 3, dtype=np.float32)), {}),
    "a bias of another dtype": ("conv2d", (image(1, 1, 5, 5), image(1, 1, 3, 3), image(1, dtype=np.float32)), {}),
    "no stride": ("conv2d", (image(1, 1, 5, 5), image(1, 1, 3, 3)), {"stride": 0}),
    "no dilation": ("conv2d", (image(1, 1, 5, 5), image(1, 1, 3, 3)), {"dilation": 0}),
    "negative padding": ("conv2d", (image(1, 1, 5, 5), image(1, 1, 3, 3)), {"padding": -1}),
    "an unknown padding": ("conv2d", (image(1, 1, 5, 5), image(1, 1, 3, 3)), {"padding": "full"}),
    "padding over half the window": ("max_pool2d", (image(1, 1, 5, 5),), {"kernel_size": 3, "padding": 2}),
    "padding over half an even window": ("max_pool2d", (image(1, 1, 5, 5),), {"kernel_size": 2, "padding": (1, 2)}),
    "a pool larger than the image": ("max_pool2d", (image(1, 1, 2, 5),), {"kernel_size": 3}),
    "a pool far larger than the image": (
        "max_pool2d",
        (image(1, 1, 1, 5),),
        {"kernel_size": 4, "stride": 2, "ceil_mode": True},
    ),
    "a pool of nothing": ("max_pool2d", (image(1, 1, 0, 5),), {"kernel_size": 1}),
    "no kernel": ("max_pool2d", (image(1, 1, 5, 5),), {"kernel_size": 0}),
    "features that do not fit": ("linear", (image(2, 3), image(2, 4)), {}),
    "linear weights of another dtype": ("linear", (image(2, 3), image(2, 3, dtype=np.float32)), {}),
    "a linear bias of another length": ("linear", (image(2, 3), image(4, 3), image(3)), {}),
    "too few labels": ("softmax_cross_entropy", (image(2, 3), np.zeros(1, np.int64)), {}),
    "a label beyond the classes": ("softmax_cross_entropy", (image(2, 3), np.array([0, 3])), {}),
    "a negative label": ("softmax_cross_entropy", (image(2, 3), np.array([0, -1])), {}),
    "an unknown reduction": ("softmax_cross_entropy", (image(2, 3), np.array([0, 1])), {"reduction": "average"}),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_pytorch_refuses_is_refused(what: str) -> None:
    name, arrays, options = REFUSED[what]
    function = F.cross_entropy if name == "softmax_cross_entropy" else getattr(F, name)
    with pytest.raises((RuntimeError, ValueError, IndexError)):
        function(*tensors(arrays), **options)
    for version in LAYERS[name].implementations:
        with pytest.raises((TypeError, ValueError)):
            version.forward(*arrays, **options)


@pytest.mark.parametrize("ceil_mode", [False, True])
@pytest.mark.parametrize("padding", range(3))
def test_pooling_accepts_what_pytorch_accepts_and_gives_as_many_windows(padding: int, ceil_mode: bool) -> None:
    # There are two exceptions. To windows that jump over the whole image PyTorch gives minus infinity and an index
    # outside it. And padding of half a dilated window is accepted beyond what PyTorch accepts.
    for size, kernel, stride, dilation in itertools.product(range(1, 6), range(1, 4), range(1, 4), range(1, 4)):
        x = np.arange(size, dtype=np.float64).reshape(1, 1, size, 1)
        options = {
            "kernel_size": (kernel, 1),
            "stride": (stride, 1),
            "padding": (padding, 0),
            "dilation": (dilation, 1),
            "ceil_mode": ceil_mode,
        }
        theirs = attempt(F.max_pool2d, (torch.tensor(x),), options)
        for version in LAYERS["max_pool2d"].implementations:
            ours = attempt(version.forward, (x,), options)
            if theirs is None:
                assert ours is None or kernel < 2 * padding <= (kernel - 1) * dilation + 1, (size, options)
            elif torch.isinf(theirs).any():
                assert ours is None, (size, options)
            else:
                same(ours[0], theirs)


@pytest.mark.parametrize("padding", range(3))
def test_convolution_accepts_what_pytorch_accepts_and_gives_as_many_windows(padding: int) -> None:
    for size, kernel, stride, dilation in itertools.product(range(1, 6), range(1, 4), range(1, 4), range(1, 4)):
        x, w = np.arange(size, dtype=np.float64).reshape(1, 1, size, 1), np.ones((1, 1, kernel, 1))
        options = {"stride": (stride, 1), "padding": (padding, 0), "dilation": (dilation, 1)}
        theirs = attempt(F.conv2d, (torch.tensor(x), torch.tensor(w)), options)
        for version in LAYERS["conv2d"].implementations:
            ours = attempt(version.forward, (x, w), options)
            assert (ours is None) == (theirs is None), (size, kernel, options)
            if ours is not None:
                same(ours[0], theirs)


def attempt(function: Any, arrays: tuple[Any, ...], options: dict[str, Any]) -> Any:
    """What the function gives, or None where it refuses."""
    try:
        return function(*arrays, **options)
    except (ValueError, RuntimeError):
        return None
