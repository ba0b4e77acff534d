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
def plain_cases(draw: st.DrawFn) -> Case:
    """Valid calls with a reduction alone, on logits of two axes, also with one class and with no image."""
    images, classes = draw(st.integers(0, 4)), draw(st.integers(1, 5))
    x = draw(strategies.reals((images, classes)))
    labels = draw(npst.arrays(np.int64, (images,), elements=st.integers(0, classes - 1), fill=st.nothing()))
    return Case((x, labels), {"reduction": draw(st.sampled_from(["mean", "sum", "none"]))})


@st.composite
def softmax_cross_entropy_cases(draw: st.DrawFn) -> Case:
    """Valid calls: every reduction, weights, ignored labels and smoothing, one class, no image, two further axes.

    Logits are in [-4, 4]. Differences cannot distinguish a gradient that underflows from zero, so saturated logits
    are tested by known values instead. Weights are multiples of 1/4, exact in every dtype, and may be 0. A mean needs
    a positive weight, so the first label is then one with a positive weight. Means of nothing have tests of their own.
    """
    images, classes = draw(st.integers(0, 4)), draw(st.integers(1, 5))
    further = draw(st.sampled_from([(), (), (2,), (1, 2)]))
    x = draw(strategies.reals((images, classes, *further)))
    labels = draw(npst.arrays(np.int64, (images, *further), elements=st.integers(0, classes - 1), fill=st.nothing()))
    options: dict[str, Any] = {"reduction": draw(st.sampled_from(["mean", "sum", "none"]))}
    if draw(st.booleans()):
        options["weight"] = np.abs(draw(strategies.integers((classes,)))) / 4
    if draw(st.booleans()):
        options["label_smoothing"] = draw(st.sampled_from([0.125, 0.3, 1.0]))
    ignored = draw(st.sampled_from([None, -100, -1, classes - 1]))  # also one of the classes
    if ignored is not None:
        options["ignore_index"] = ignored
        labels[draw(npst.arrays(np.bool_, labels.shape))] = ignored
    if options["reduction"] == "mean" and labels.size:
        first = draw(st.integers(0, max(0, classes - 2)))
        if first == ignored:  # the only class
            options["ignore_index"] = -100
        labels.flat[0] = first
        if "weight" in options:
            options["weight"][first] = options["weight"][first] or 0.5
    return Case((x, labels), options)


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
    _reject("rank of x", r"x must have at least 2 axes \(N C ...\), got shape \(3,\)", x=np.zeros(3)),
    _reject("no class", r"x must have at least one class, got shape \(2, 0\)", x=np.zeros((2, 0))),
    _reject("too few labels", r"labels must have shape \(2,\), .* got \(1,\)", labels=np.zeros(1, np.int64)),
    _reject("label too large", r"labels must lie in \[0, 3\), got 3 at position 1", labels=np.array([0, 3])),
    _reject("negative label", r"labels must lie in \[0, 3\), got -1 at position 0", labels=np.array([-1, 0])),
    _reject("floating labels", "labels must be an integer array, got float64", TypeError, labels=np.zeros(2)),
    _reject("list of labels", "labels must be an integer array, got list", TypeError, labels=[0, 1]),
    _reject(
        "labels without the further axes",
        r"labels must have shape \(2, 4, 5\), one for each position of x \(2, 3, 4, 5\), got \(2,\)",
        x=np.zeros((2, 3, 4, 5)),
    ),
    _reject(
        "label too large in an image",
        r"labels must lie in \[0, 3\), got 7 at position \(1, 0\)",
        x=np.zeros((2, 3, 2)),
        labels=np.array([[0, 1], [7, 2]]),
    ),
    _reject("another label than the ignored one", r"\[0, 3\), got -1", labels=np.array([-2, -1]), ignore_index=-2),
    _reject("ignore_index", "ignore_index must be an integer, got None", TypeError, ignore_index=None),
    _reject("ignore_index as a boolean", "ignore_index must be an integer, got True", TypeError, ignore_index=True),
    _reject("weights", r"weight must have shape \(3,\), got \(2,\)", weight=np.ones(2)),
    _reject("list of weights", "weight must be a real floating array, got list", TypeError, weight=[1.0, 1.0, 1.0]),
    _reject(
        "complex weights",
        "weight must be a real floating array, got dtype complex128",
        TypeError,
        weight=np.ones(3, complex),
    ),
    _reject("smoothing above 1", r"label_smoothing must be in \[0, 1\], got 1.5", label_smoothing=1.5),
    _reject("negative smoothing", r"label_smoothing must be in \[0, 1\], got -0.1", label_smoothing=-0.1),
    _reject("smoothing as text", "label_smoothing must be a real number, got '0'", TypeError, label_smoothing="0"),
    _reject("reduction", "reduction must be .*, got 'average'", reduction="average"),
    _reject(
        "integer x", "x must be a floating or complex array, got dtype int64", TypeError, x=np.zeros((2, 3), np.int64)
    ),
    _reject(
        "object x", "x must be a floating or complex array, got dtype object", TypeError, x=np.zeros((2, 3), object)
    ),
)


def _bench(zoo: str, images: int, classes: int, further: tuple[int, ...] = (), naive: bool = False) -> BenchCase:
    def draw(generator: np.random.Generator, images: int) -> tuple[Array, ...]:
        x = generator.normal(size=(images, classes, *further)).astype(np.float32)
        return x, generator.integers(0, classes, (images, *further))

    places = " at ".join([f"{classes} classes", *(["x".join(map(str, further))] if further else [])])
    return BenchCase(f"{places}, N = {images}", zoo, images, draw, naive=naive)


def _torch(torch: Any, x: Any, labels: Any, *, weight: Array | None = None, **options: Any) -> Any:
    given = None if weight is None else torch.tensor(weight, dtype=x.dtype)
    return torch.nn.functional.cross_entropy(x, labels, given, **options)


def _jax(
    jax: Any,
    x: Any,
    labels: Any,
    *,
    reduction: str,
    weight: Array | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
) -> Any:
    if not x.shape[0]:
        return None  # JAX's mean over no image is NaN, and so are its gradients
    classes, counted = x.shape[1], labels != ignore_index
    weight = np.ones(classes) if weight is None else weight
    one_hot = np.moveaxis(np.eye(classes)[np.where(counted, labels, 0)], -1, 1)
    q = (one_hot * (1 - label_smoothing) + label_smoothing / classes) * weight.reshape(-1, *[1] * (x.ndim - 2))
    loss = -(q * jax.nn.log_softmax(x, axis=1)).sum(axis=1) * counted
    divisor = weight[labels[counted]].sum()
    return {"mean": lambda: loss.sum() / divisor, "sum": loss.sum, "none": lambda: loss}[reduction]()


def _tolerance(
    arrays: tuple[Array, ...], options: Mapping[str, Any], y: Array, dy: Array, gradients: tuple[Array | None, ...]
) -> tuple[Any, ...]:
    """Twice the largest rounding error of one version.

    Let u = eps/2. The errors of exp and log are at most 4 ulp, or E u with E = 8. Let d_c be the distance of
    logit c from the largest. Let s be the sum of all exp(-d_c), and p_c a probability. Relative errors:

    - exp(-d_c): (d_c + E)u.
    - s: (E + 2C)u, because d exp(-d) < 1 and s >= 1.

    Absolute errors, where Q is the sum of the q_c of a loss, and M the number of losses:

    - -log p_c is log s + d_c, both at least 0. Its error is (E + 2C)u + (E + 2)u (-log p_c).
    - q_c takes 4 roundings, and the loss is a sum of C products with q_c. Its error is at most gamma_k (Q + loss).
    - The sum of M losses adds M u of itself, so its error is at most gamma_k (sum Q + y). W has a relative error of
      M u, and a mean one of at most gamma_k (sum Q / W + y).
    - A gradient is the upstream times p_c Q - q_c, or sums of that size. The error of p_c is
      (d_c + 2E + 2C + 1)u p_c, and d_c p_c < 1. With the sums over C and W that is at most gamma_k times the
      upstream times Q.

    k = 2M + 5C + 2E + 8 is at least what each of these needs. An ignored loss has Q = 0.
    """
    x, labels = arrays
    classes, smoothing, reduction = x.shape[1], options.get("label_smoothing", 0.0), options.get("reduction", "mean")
    weight = np.ones(classes) if options.get("weight") is None else options["weight"]
    counted = labels != options.get("ignore_index", -100)
    of_label = np.where(counted, weight[np.where(counted, labels, 0)], 0.0)
    q = np.where(counted, (1 - smoothing) * of_label + smoothing * weight.mean(), 0.0)
    k = 2 * labels.size + 5 * classes + 2 * 8 + 8
    unit = float(np.finfo(y.dtype).eps) / 2
    gamma = k * unit / (1 - k * unit)
    divisor = float(of_label.sum()) or np.inf if reduction == "mean" else 1.0
    upstream = np.abs(dy.astype(np.float64)) / divisor
    of_y = q if reduction == "none" else q.sum() / divisor
    of_dx = np.broadcast_to(np.expand_dims(upstream * q, 1), x.shape)
    return 2 * gamma * (of_y + np.abs(y)), 2 * gamma * of_dx


SOFTMAX_CROSS_ENTROPY = Layer(
    name="softmax_cross_entropy",
    module=softmax_cross_entropy,
    arguments="x: N C ...; labels: N ... -> y: N ... or scalar",
    structure="analytic",
    cases=softmax_cross_entropy_cases,
    rejects=_REJECTS,
    bench=(
        _bench("small enough for loops", 64, 10, naive=True),
        _bench("tutorial", 128, 10),
        _bench("ResNet-50", 32, 1000),
        _bench("segmentation", 4, 21, (128, 128)),
    ),
    source="torch.nn.functional.cross_entropy",
    torch=_torch,
    jax=_jax,
    onnx=("SoftmaxCrossEntropyLoss",),
    tolerance=_tolerance,
    constants=("labels",),
)
