"""Measures the time of a check against PyTorch's gradcheck, on the same convolution in the same run, and its memory."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
from threadpoolctl import threadpool_info

from benchmarks.turns import in_turns
from cnn_core import conv2d
from verify import gradcheck

Shapes = tuple[tuple[int, ...], tuple[int, ...]]

# x and w, and the options.
LARGE: tuple[Shapes, dict[str, int]] = ((2, 64, 56, 56), (64, 64, 3, 3)), {"stride": 1, "padding": 1}


def _torch_pair(options: dict[str, int]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return PyTorch's own convolution as a pair, so that both times are those of checking."""
    import torch

    stride, padding = [options["stride"]] * 2, [options["padding"]] * 2

    def forward(x: Any, w: Any) -> Any:
        tensors = torch.from_numpy(x), torch.from_numpy(w)
        return torch.conv2d(*tensors, None, stride, padding).numpy(), tensors

    def backward(dy: Any, cache: Any) -> Any:
        mask = [True, True, False]
        found = torch.ops.aten.convolution_backward(
            torch.from_numpy(dy), *cache, None, stride, padding, [1, 1], False, [0, 0], 1, mask
        )
        return tuple(each.numpy() for each in found[:2])

    return forward, backward


def jobs(shapes: Shapes, options: dict[str, int]) -> dict[str, Callable[[], Any]]:
    """Return checks of one convolution: ours of PyTorch's layer, ours of our layer, and PyTorch's of its own."""
    import torch

    generator = np.random.default_rng(0)
    arrays = tuple(generator.normal(size=shape) for shape in shapes)
    tensors = tuple(torch.tensor(array, requires_grad=True) for array in arrays)

    def ours(forward: Callable[..., Any], backward: Callable[..., Any], options: dict[str, int]) -> Callable[[], Any]:
        return lambda: gradcheck(forward, backward, arrays, options, structure="multilinear")

    def theirs() -> bool:
        return bool(
            torch.autograd.gradcheck(lambda x, w: torch.nn.functional.conv2d(x, w, **options), tensors, fast_mode=True)
        )

    return {
        "ours": ours(*_torch_pair(options), {}),
        "ours, our convolution": ours(*conv2d.fast[1:], options),
        "torch": theirs,
    }


def _compare(shapes: Shapes, options: dict[str, int], seconds: float) -> dict[str, Any]:
    checks = jobs(shapes, options)
    medians = {name: rounds.median for name, rounds in in_turns(checks, seconds=seconds).items()}
    return {
        "PyTorch's time over ours, PyTorch's convolution": medians["torch"] / medians["ours"],
        "PyTorch's time over ours, our convolution": medians["torch"] / medians["ours, our convolution"],
        "miss probability": checks["ours"]().miss_probability,
    }


def _memory() -> float:
    """Return the peak memory that a check allocates, with y and gradients, divided by that of x, w and y."""
    shapes, options = LARGE
    arrays = tuple(np.random.default_rng(0).normal(size=shape) for shape in shapes)
    forward, backward = _torch_pair(options)
    y, _ = forward(*arrays)
    size = sum(array.nbytes for array in (*arrays, y))

    def counted_forward(x: Any, w: Any) -> Any:
        y, cache = forward(x, w)
        return y.copy(), cache  # memory allocated by PyTorch is not traced

    def counted_backward(dy: Any, cache: Any) -> Any:
        return tuple(each.copy() for each in backward(dy, cache))

    tracemalloc.start()
    gradcheck(counted_forward, counted_backward, arrays, structure="multilinear")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak / size


def measure(seconds: int) -> dict[str, Any]:
    """Return medians of rounds in turn, with `seconds` for each row and two threads. Needs PyTorch."""
    import torch

    torch.set_num_threads(2)
    kernels = {each["architecture"] for each in threadpool_info() if each["internal_api"] == "openblas"}
    return {
        "measured with": f"NumPy {np.__version__}, OpenBLAS kernel {', '.join(kernels) or 'none'}, "
        f"PyTorch {torch.__version__}, 2 threads",
        "memory over that of x, w and y": _memory(),
        "rows": {
            "x (2, 64, 56, 56), w (64, 64, 3, 3); PyTorch's fast mode": _compare(*LARGE, seconds),
        },
    }
