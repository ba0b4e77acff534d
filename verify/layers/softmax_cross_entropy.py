"""The declaration of softmax_cross_entropy."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from cnn_core import softmax_cross_entropy
from verify import strategies
from verify.layers._layer import Array, BenchCase, Case, Layer, Reject


@st.composite
def softmax_cross_entropy_cases(draw: st.DrawFn) -> Case:
    """Valid calls: every reduction, also with one class and with no image.

    Logits are in [-4, 4]. Differences cannot distinguish a gradient that underflows from zero, so saturated logits
    are tested by known values instead.
    """
    images, classes = draw(st.integers(0, 4)), draw(st.integers(1, 5))
    x = draw(strategies.reals((images, classes)))
    labels = draw(npst.arrays(np.int64, (images,), elements=st.integers(0, classes - 1), fill=st.nothing()))
    return Case((x, labels), {"reduction": draw(st.sampled_from(["mean", "sum", "none"]))})


def _reject(
    name: str,
    message: str,
    error: type[Exception] = ValueError,
    *,
    x: object = np.zeros((2, 3)),
    labels: object = np.zeros(2, np.int64),
    **options: object,
) -> Reject:
    return Reject(name, (x, labels), options, error, message)


_REJECTS = (
    _reject("rank of x", r"x must have 2 axes \(N C\), got shape \(3,\)", x=np.zeros(3)),
    _reject("no class", r"x must have at least one class, got shape \(2, 0\)", x=np.zeros((2, 0))),
    _reject("too few labels", r"labels must have shape \(2,\), .* got \(1,\)", labels=np.zeros(1, np.int64)),
    _reject("label too large", r"labels must lie in \[0, 3\), got 3 at position 1", labels=np.array([0, 3])),
    _reject("negative label", r"labels must lie in \[0, 3\), got -1 at position 0", labels=np.array([-1, 0])),
    _reject("floating labels", "labels must be an integer array, got float64", TypeError, labels=np.zeros(2)),
    _reject("list of labels", "labels must be an integer array, got list", TypeError, labels=[0, 1]),
    _reject("reduction", "reduction must be .*, got 'average'", reduction="average"),
    _reject(
        "integer x", "x must be a floating or complex array, got dtype int64", TypeError, x=np.zeros((2, 3), np.int64)
    ),
    _reject(
        "object x", "x must be a floating or complex array, got dtype object", TypeError, x=np.zeros((2, 3), object)
    ),
)


def _bench(zoo: str, images: int, classes: int, naive: bool = False) -> BenchCase:
    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        return generator.normal(size=(images, classes)).astype(np.float32), generator.integers(0, classes, images)

    return BenchCase(f"{classes} classes, N = {images}", zoo, images, draw, naive=naive)


SOFTMAX_CROSS_ENTROPY = Layer(
    name="softmax_cross_entropy",
    module=softmax_cross_entropy,
    arguments="x: N C; labels: N -> y: N or scalar",
    structure="analytic",
    cases=softmax_cross_entropy_cases,
    rejects=_REJECTS,
    bench=(
        _bench("small enough for loops", 64, 10, naive=True),
        _bench("tutorial", 128, 10),
        _bench("ResNet-50", 32, 1000),
    ),
    source="torch.nn.functional.cross_entropy",
)
