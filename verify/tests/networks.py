"""Networks with branches, each said once: as a graph of this project's layers, and as PyTorch computes it.

A network lists its layers by name. `build` makes the graph of one version. `in_torch` runs the same list with what the
declarations say of PyTorch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

import cnn_core
from cnn_core import Implementation
from cnn_core.graph import Node, graph
from verify.layers import LAYERS

Array = np.ndarray[Any, Any]


class Call(NamedTuple):
    """A layer of a network by its name, the values that it takes, and its options."""

    layer: str
    inputs: str
    options: Mapping[str, Any] = {}


class Network(NamedTuple):
    """A network with a loss: the shapes of its parameters, its layers, and what it is given beside parameters."""

    parameters: Mapping[str, tuple[int, ...]]
    calls: Mapping[str, Call]
    given: Mapping[str, Array]

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all arrays: x, the parameters, and then constants such as labels."""
        first, *rest = self.given
        return (first, *self.parameters, *rest)

    def arrays(self, seed: int) -> dict[str, Array]:
        """The arrays, with parameters drawn: normal, with the variance that keeps the size of activations."""
        generator = np.random.default_rng(seed)
        drawn = {
            name: generator.normal(size=shape) * (2 / max(1, int(np.prod(shape[1:])))) ** 0.5
            for name, shape in self.parameters.items()
        }
        return {name: drawn[name] if name in drawn else self.given[name] for name in self.names}

    def build(self, version: str) -> Implementation:
        """The graph of this version's layers: "naive" or "fast"."""
        nodes = {
            key: Node(getattr(getattr(cnn_core, call.layer), version), tuple(call.inputs.split()), call.options)
            for key, call in self.calls.items()
        }
        return graph("network", self.names, nodes)

    def in_torch(self, tensors: Mapping[str, Any]) -> Any:
        """The loss as PyTorch computes it."""
        import torch

        values = dict(tensors)
        for key, (name, inputs, options) in self.calls.items():
            layer = LAYERS[name]
            given = [values[each] for each in inputs.split()]
            given += [None] * (len(layer.names) - len(given))
            assert layer.torch is not None
            values[key] = layer.torch(torch, *given, **{**layer.options, **options})
        return values[key]


def _images(*shape: int) -> Array:
    return np.random.default_rng(1).normal(size=shape)


def _labels(classes: int, *shape: int) -> Array:
    return np.random.default_rng(2).integers(0, classes, shape)


_SAME = {"padding": 1}
_HALF = {"kernel_size": 2}

# LeCun et al. 1998, "Gradient-based learning applied to document recognition": LeNet-5 with fewer channels.
LENET = Network(
    {
        "w1": (2, 1, 5, 5), "b1": (2,), "w2": (3, 2, 5, 5), "b2": (3,),
        "w3": (8, 12), "b3": (8,), "w4": (6, 8), "b4": (6,), "w5": (4, 6), "b5": (4,),
    },
    {
        "c1": Call("conv2d", "x w1 b1", {"padding": 2}), "r1": Call("tanh", "c1"),
        "p1": Call("avg_pool2d", "r1", _HALF),
        "c2": Call("conv2d", "p1 w2 b2"), "r2": Call("tanh", "c2"), "p2": Call("avg_pool2d", "r2", _HALF),
        "f": Call("flatten", "p2"),
        "l3": Call("linear", "f w3 b3"), "r3": Call("tanh", "l3"),
        "l4": Call("linear", "r3 w4 b4"), "r4": Call("tanh", "l4"),
        "l5": Call("linear", "r4 w5 b5"), "loss": Call("softmax_cross_entropy", "l5 labels"),
    },
    {"x": _images(2, 1, 16, 16), "labels": _labels(4, 2)},
)  # fmt: skip

# Simonyan & Zisserman 2014, arXiv:1409.1556: pairs of 3x3 convolutions and pools; dropout (Srivastava et al. 2014).
VGG = Network(
    {
        "w1": (3, 2, 3, 3), "b1": (3,), "w2": (3, 3, 3, 3), "b2": (3,),
        "w3": (4, 3, 3, 3), "b3": (4,), "w4": (4, 4, 3, 3), "b4": (4,),
        "w5": (6, 16), "b5": (6,), "w6": (5, 6), "b6": (5,),
    },
    {
        "c1": Call("conv2d", "x w1 b1", _SAME), "r1": Call("relu", "c1"),
        "c2": Call("conv2d", "r1 w2 b2", _SAME), "r2": Call("relu", "c2"), "p2": Call("max_pool2d", "r2", _HALF),
        "c3": Call("conv2d", "p2 w3 b3", _SAME), "r3": Call("relu", "c3"),
        "c4": Call("conv2d", "r3 w4 b4", _SAME), "r4": Call("relu", "c4"), "p4": Call("max_pool2d", "r4", _HALF),
        "f": Call("flatten", "p4"), "l5": Call("linear", "f w5 b5"), "r5": Call("relu", "l5"),
        "d": Call("dropout", "r5 mask", {"p": 0.5}),
        "l6": Call("linear", "d w6 b6"), "loss": Call("softmax_cross_entropy", "l6 labels"),
    },
    {"x": _images(2, 2, 8, 8), "mask": np.random.default_rng(3).random((2, 6)) < 0.5, "labels": _labels(5, 2)},
)  # fmt: skip

# He et al. 2015, arXiv:1512.03385, figure 2: a residual block that halves the image, with a projection beside it.
RESIDUAL = Network(
    {
        "w1": (4, 3, 3, 3), "g1": (4,), "h1": (4,), "w2": (4, 4, 3, 3), "g2": (4,), "h2": (4,),
        "w3": (4, 3, 1, 1), "g3": (4,), "h3": (4,), "w4": (3, 4), "b4": (3,),
    },
    {
        "c1": Call("conv2d", "x w1", {"stride": 2, "padding": 1}), "n1": Call("batch_norm2d", "c1 g1 h1"),
        "r1": Call("relu", "n1"),
        "c2": Call("conv2d", "r1 w2", _SAME), "n2": Call("batch_norm2d", "c2 g2 h2"),
        "c3": Call("conv2d", "x w3", {"stride": 2}), "n3": Call("batch_norm2d", "c3 g3 h3"),
        "s": Call("add", "n2 n3"), "r": Call("relu", "s"),
        "a": Call("adaptive_avg_pool2d", "r", {"output_size": 1}), "f": Call("flatten", "a"),
        "l": Call("linear", "f w4 b4"), "loss": Call("softmax_cross_entropy", "l labels"),
    },
    {"x": _images(3, 3, 6, 6), "labels": _labels(3, 3)},
)  # fmt: skip

# Ronneberger et al. 2015, arXiv:1505.04597: down, up by a transposed convolution, and beside it what went down.
UNET = Network(
    {
        "w1": (3, 2, 3, 3), "b1": (3,), "w2": (4, 3, 3, 3), "b2": (4,),
        "w3": (4, 3, 2, 2), "b3": (3,), "w4": (3, 6, 3, 3), "b4": (3,), "w5": (4, 3, 1, 1), "b5": (4,),
    },
    {
        "c1": Call("conv2d", "x w1 b1", _SAME), "r1": Call("relu", "c1"), "p1": Call("max_pool2d", "r1", _HALF),
        "c2": Call("conv2d", "p1 w2 b2", _SAME), "r2": Call("relu", "c2"),
        "u": Call("conv_transpose2d", "r2 w3 b3", {"stride": 2}),
        "k": Call("concat", "r1 u", {"axis": 1}),
        "c4": Call("conv2d", "k w4 b4", _SAME), "r4": Call("relu", "c4"), "c5": Call("conv2d", "r4 w5 b5"),
        "loss": Call("softmax_cross_entropy", "c5 labels"),
    },
    {"x": _images(2, 2, 6, 6), "labels": _labels(4, 2, 6, 6)},
)  # fmt: skip

# Howard et al. 2017, arXiv:1704.04861: a convolution of each channel, then one of 1x1 over the channels.
SEPARABLE = Network(
    {
        "w1": (3, 1, 3, 3), "g1": (3,), "h1": (3,), "w2": (5, 3, 1, 1), "g2": (5,), "h2": (5,),
        "w3": (4, 5), "b3": (4,),
    },
    {
        "c1": Call("conv2d", "x w1", {"padding": 1, "stride": 2, "groups": 3}),
        "n1": Call("batch_norm2d", "c1 g1 h1"), "r1": Call("relu", "n1"),
        "c2": Call("conv2d", "r1 w2"), "n2": Call("batch_norm2d", "c2 g2 h2"), "r2": Call("silu", "n2"),
        "a": Call("adaptive_avg_pool2d", "r2", {"output_size": 1}), "f": Call("flatten", "a"),
        "l": Call("linear", "f w3 b3"), "loss": Call("softmax_cross_entropy", "l labels"),
    },
    {"x": _images(3, 3, 6, 6), "labels": _labels(4, 3)},
)  # fmt: skip

NETWORKS = {"LeNet-5": LENET, "VGG": VGG, "residual block": RESIDUAL, "U-Net": UNET, "separable block": SEPARABLE}
