"""The declaration of softmax_cross_entropy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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


def _jax(jax: Any, x: Any, labels: Any, *, reduction: str) -> Any:
    if not x.shape[0]:
        return None  # JAX's mean over no image is NaN, and so are its gradients
    loss = -jax.numpy.take_along_axis(jax.nn.log_softmax(x), labels[:, None], axis=1)[:, 0]
    return {"mean": loss.mean, "sum": loss.sum, "none": lambda: loss}[reduction]()


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the largest rounding error of one version.

    Let u = eps/2. The errors of exp and log are at most 4 ulp, or E u with E = 8. Let d_c be the distance of
    logit c from the largest. Let s be the sum of all exp(-d_c), and p_c a probability. Relative errors:

    - exp(-d_c): (d_c + E)u.
    - s: (E + 2C)u, because d exp(-d) < 1 and s >= 1.

    Absolute errors:

    - A loss is log s + d_label, both at least 0. Its error is (E + 2C)u + (E + 2)u loss.
    - The sum of N losses adds N u of itself, so its error is at most gamma_k (N + y), and that of the mean
      gamma_k (1 + y).
    - A gradient is the upstream times a probability or a sum of C - 1 probabilities. A product has an error of
      (d_c + 2E + 2C + 3)u p_c.
    - With the sums over C it is (2E + 4C + 3)u. In total a gradient has an error of at most gamma_k times the upstream.
    """
    images, classes = arrays[0].shape
    reduction = options.get("reduction", "mean")
    k = images + 4 * classes + 2 * 8 + 4
    unit = float(np.finfo(y.dtype).eps) / 2
    gamma = k * unit / (1 - k * unit)
    losses = images if reduction == "sum" else 1
    upstream = float(np.abs(dy).max(initial=0.0)) / (max(1, images) if reduction == "mean" else 1)
    return 2 * gamma * (losses + np.abs(y)), 2 * gamma * upstream


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
    torch=lambda torch, x, labels, **options: torch.nn.functional.cross_entropy(x, labels, **options),
    jax=_jax,
    tolerance=_tolerance,
    constants=("labels",),
)
