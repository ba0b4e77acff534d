"""Graphs of layers: a value that two nodes read gets both gradients, and a graph is a layer again."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnn_core import Implementation, conv2d, flatten, linear, relu, softmax_cross_entropy
from cnn_core._arguments import Gradients
from cnn_core.graph import Node, graph
from cnn_core.network import Step, chain
from helpers import drawn
from verify import gradcheck

X, W, B, V = drawn(0, 4, 3), drawn(1, 5, 3), drawn(2, 5), drawn(3, 2, 5)


def two_branches(version: str) -> Any:
    """relu(z) times z transposed, where z = x w + b: both factors depend on z, and nothing on v."""
    return graph(
        "two branches",
        ["x", "w", "b", "v"],
        {
            "z": Node(getattr(linear, version), ("x", "w", "b")),
            "r": Node(getattr(relu, version), ("z",)),
            "y": Node(getattr(linear, version), ("r", "z")),
        },
    )


@pytest.mark.parametrize("version", ["naive", "fast"])
def test_a_value_read_twice_gets_both_gradients(version: str) -> None:
    layer = two_branches(version)
    y, cache = layer.forward(X, W, B, V)
    z = X @ W.T + B
    r = np.maximum(z, 0)
    assert np.allclose(y, r @ z.T)
    dy = drawn(4, *y.shape)
    dz = (dy @ z) * (z > 0) + dy.T @ r
    dx, dw, db, dv = layer.backward(dy, cache)
    assert np.allclose(dx, dz @ W)
    assert np.allclose(dw, dz.T @ X)
    assert np.allclose(db, dz.sum(axis=0))
    assert not dv.any()  # y does not depend on it
    assert dv.shape == V.shape


@pytest.mark.parametrize("version", ["naive", "fast"])
def test_a_graph_is_checked_as_a_layer(version: str) -> None:
    layer = two_branches(version)
    assert gradcheck(layer.forward, layer.backward, (X, W, B, V), seed=0, wrt=[0, 1, 2])


def test_a_graph_without_branches_is_a_chain() -> None:
    images, filters, labels = drawn(0, 2, 1, 4, 4), drawn(1, 3, 1, 2, 2), np.array([1, 4])
    weights = drawn(2, 5, 27)
    steps = [Step(conv2d.fast, 1), Step(relu.fast), Step(flatten.fast), Step(linear.fast, 1)]
    one = chain("one", [*steps, Step(softmax_cross_entropy.fast, 1)])
    other = graph(
        "other",
        ["x", "w", "v", "labels"],
        {
            "c": Node(conv2d.fast, ("x", "w")),
            "r": Node(relu.fast, ("c",)),
            "f": Node(flatten.fast, ("r",)),
            "l": Node(linear.fast, ("f", "v")),
            "y": Node(softmax_cross_entropy.fast, ("l", "labels"), {"reduction": "sum"}),
        },
    )
    y, cache = one.forward(images, filters, weights, labels)
    z, kept = other.forward(images, filters, weights, labels)
    assert z == 2 * y
    right = one.backward(np.float64(2), cache)
    for expected, got in zip(right, other.backward(np.float64(1), kept), strict=True):
        np.testing.assert_array_equal(expected, got)


def test_a_node_that_y_does_not_depend_on_is_not_asked_for_gradients() -> None:
    nodes = {
        "r": Node(relu.fast, ("x",)),
        "unused": Node(linear.fast, ("r", "w")),  # r is asked after it
        "y": Node(relu.fast, ("r",)),
    }
    layer = graph("one of two", ["x", "w"], nodes)
    assert layer.name == "one of two"
    y, cache = layer.forward(X, W)
    gradients: Any = layer.backward(np.ones_like(y), cache)
    np.testing.assert_array_equal(gradients[0], X > 0)
    np.testing.assert_array_equal(gradients[1], np.zeros_like(W))


@pytest.mark.parametrize("dtype", [np.float32, np.complex64, np.complex128])
def test_gradients_have_the_dtype_of_the_arrays(dtype: type[np.inexact[Any]]) -> None:
    layer = two_branches("fast")
    y, cache = layer.forward(*(array.astype(dtype) for array in (X, W, B, V)))
    gradients = layer.backward(np.ones_like(y), cache)
    assert [each is not None and each.dtype for each in gradients] == [np.dtype(dtype)] * 4


def test_an_array_without_a_gradient_may_stand_before_one_that_has_one() -> None:
    def rows(index: Any, table: Any) -> tuple[Any, Any]:
        return table[index], (index, table.shape)

    def rows_backward(dy: Any, cache: Any) -> Gradients:
        dtable = np.zeros(cache[1])
        np.add.at(dtable, cache[0], dy)
        return (dtable,)

    node = Node(Implementation("rows", rows, rows_backward), ("index", "table"))
    layer = graph("embedding", ["index", "table"], {"e": node, "y": Node(relu.fast, ("e",))})
    y, cache = layer.forward(np.array([2, 0, 2]), np.ones((3, 2)))
    (dtable,) = layer.backward(np.ones_like(y), cache)
    np.testing.assert_array_equal(dtable, [[1, 1], [0, 0], [2, 2]])


def test_a_bias_not_given_has_no_gradient() -> None:
    layer = graph("linear", ["x", "w", "b"], {"y": Node(linear.fast, ("x", "w", "b"))})
    y, cache = layer.forward(X, W, None)
    assert layer.backward(y, cache)[2] is None


@pytest.mark.parametrize(
    ("arrays", "nodes", "message"),
    [
        (["x"], {}, "graph 'g' must have at least one node"),
        (["x", "x"], {"y": Node(relu.fast, ("x",))}, "graph 'g' has two values named 'x'"),
        (["x"], {"x": Node(relu.fast, ("x",))}, "graph 'g' has two values named 'x'"),
        (["x"], {"y": Node(relu.fast, ("z",))}, "graph 'g': 'y' takes 'z', which nothing before it is"),
        (["x"], {"y": Node(linear.fast, ("x", "z", "u"))}, "graph 'g': 'y' takes 'z', 'u', which nothing before it is"),
    ],
)
def test_a_graph_that_cannot_be_is_refused(arrays: list[str], nodes: dict[str, Node], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        graph("g", arrays, nodes)


def test_bad_calls_are_refused() -> None:
    layer, other = (graph(name, ["x"], {"y": Node(relu.fast, ("x",))}) for name in ("one", "other"))
    with pytest.raises(ValueError, match=r"graph 'one' takes 1 arrays \(x\), got 2"):
        layer.forward(X, X)
    with pytest.raises(ValueError, match=r"graph 'two branches' takes 4 arrays \(x, w, b, v\), got 1"):
        two_branches("fast").forward(X)
    y, cache = other.forward(X)
    with pytest.raises(
        TypeError, match="cache is of another graph, this backward needs that of its own forward, 'one'"
    ):
        layer.backward(y, cache)
