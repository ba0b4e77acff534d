"""A graph of layers, which is a layer again: for networks with branches.

    value[node] = f_node(values of its inputs, in order)        from the first node to the last, which is y
    gradient[input] += the input's share of backward_node(gradient[node])        from the last node to the first

Every value has a name: an array of the graph, or a node. A value that several nodes read gets the sum of their
gradients. The gradients are those of the graph's floating arrays, in order. An array that y does not depend on gets
zeros, and one that is None gets None. An integer or boolean array (labels, a mask) has no gradient.

Raises ValueError for a graph without nodes, a name that is used twice, and an input that no earlier value has.
Raises ValueError for a wrong number of arrays. Raises TypeError for a cache of another graph.

Source: Griewank & Walther 2008, "Evaluating derivatives", section 3.2 (the reverse mode).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cnn_core._arguments import Array, Gradients, Implementation, check_cache


class Node(NamedTuple):
    """A layer of a graph, the names of the values that it takes, and its options."""

    layer: Implementation
    inputs: tuple[str, ...]
    options: Mapping[str, Any] = {}


class _Cache(NamedTuple):
    """The values that the forward of a graph keeps: the graph's nodes, all values, and the cache of each node."""

    nodes: Mapping[str, Node]
    values: Mapping[str, Array | None]
    caches: Mapping[str, Any]


def graph(name: str, arrays: Sequence[str], nodes: Mapping[str, Node]) -> Implementation:
    """Return one layer that computes the nodes in order; `arrays` names what its forward takes."""
    _check(name, arrays, nodes)
    order, last = dict(nodes), [*nodes][-1]

    def forward(*given: Array | None) -> tuple[Array, _Cache]:
        """Compute (y, cache) from the arrays."""
        if len(given) != len(arrays):
            raise ValueError(f"graph {name!r} takes {len(arrays)} arrays ({', '.join(arrays)}), got {len(given)}")
        values, caches = dict[str, Array | None](zip(arrays, given, strict=True)), dict[str, Any]()
        for key, node in order.items():
            values[key], caches[key] = node.layer.forward(*(values[each] for each in node.inputs), **node.options)
        return np.asarray(values[last]), _Cache(order, values, caches)

    def backward(dy: Array, cache: _Cache) -> Gradients:
        """Compute the gradients of the arrays from dy."""
        kept, values, caches = check_cache(cache, _Cache)
        if kept is not order:
            raise TypeError(f"cache is of another graph, this backward needs that of its own forward, {name!r}")
        gradients: dict[str, Array] = {last: dy}
        for key in reversed(order):
            if key not in gradients:
                continue  # y does not depend on it
            node = order[key]
            floating = [each for each in node.inputs if _is_floating(values[each])]
            # Constants, such as running statistics, come last and have no gradient.
            for each, gradient in zip(floating, node.layer.backward(gradients[key], caches[key]), strict=False):
                if gradient is not None:
                    gradients[each] = gradients[each] + gradient if each in gradients else gradient
        return tuple(_gradient(values[each], gradients.get(each)) for each in arrays if _is_floating(values[each]))

    return Implementation(name, forward, backward)


def _is_floating(value: Array | None) -> bool:
    """Whether the value has a place among the gradients."""
    return value is None or np.issubdtype(value.dtype, np.inexact)


def _gradient(value: Array | None, found: Array | None) -> Array | None:
    return np.zeros_like(value) if found is None and value is not None else found


def _check(name: str, arrays: Sequence[str], nodes: Mapping[str, Node]) -> None:
    if not nodes:
        raise ValueError(f"graph {name!r} must have at least one node")
    known: list[str] = []
    for each, inputs in (*((array, ()) for array in arrays), *((key, node.inputs) for key, node in nodes.items())):
        if each in known:
            raise ValueError(f"graph {name!r} has two values named {each!r}")
        missing = [value for value in inputs if value not in known]
        if missing:
            raise ValueError(
                f"graph {name!r}: {each!r} takes {', '.join(map(repr, missing))}, which nothing before it is"
            )
        known.append(each)
