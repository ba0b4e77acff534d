"""The causes: each planted mistake gets its name, and no other mistake gets that name."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.calibrate import causes
from benchmarks.calibrate.mutants import MUTANTS, Mutant
from cnn_core import Implementation, conv2d, flatten, linear, max_pool2d, relu, softmax_cross_entropy
from helpers import certificate_of
from verify.battery import contracts
from verify.checker import layer
from verify.checker.certificate import Certificate
from verify.diagnosis.causes import CauseCode, cause_page
from verify.diagnosis.causes.advice import LOOK_FOR
from verify.diagnosis.causes.evidence import MOST_ENTRIES
from verify.diagnosis.causes.together import likeliest
from verify.layers import LAYERS
from verify.museum import EXHIBITS

X, W, B = (3, 2, 6, 5), (4, 2, 3, 2), (4,)
SMALL_POOL = {"kernel_size": 2, "stride": 1}


def _changed(which: int, change: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda gradients: [change(g) if i == which else g for i, g in enumerate(gradients)]


def _zero_last(axis: int) -> Callable[[Any], Any]:
    def change(gradient: Any) -> Any:
        np.moveaxis(gradient, axis, 0)[-1] = 0
        return gradient

    return change


# name -> layer, shapes, options, what becomes of the right gradients, the code it must get.
PLANTED: dict[str, tuple[Implementation, tuple[Any, ...], dict[str, Any], Callable[[Any], Any], str]] = {
    "conv dw zero": (conv2d.im2col, (X, W), {}, _changed(1, np.zeros_like), "zero"),
    "conv dx sign": (conv2d.im2col, (X, W), {}, _changed(0, np.negative), "sign"),
    "conv dw over the batch's size": (conv2d.im2col, (X, W), {}, _changed(1, lambda g: g * 4), "constant-factor"),
    "conv dw flipped": (conv2d.im2col, (X, W), {}, _changed(1, lambda g: g[..., ::-1, ::-1].copy()), "flipped"),
    "conv dw channels": (
        conv2d.im2col,
        (X, (2, 2, 3, 2)),
        {},
        _changed(1, lambda g: g.transpose(1, 0, 2, 3).copy()),
        "transposed",
    ),
    "conv dx shifted": (conv2d.im2col, (X, W), {"padding": 1}, _changed(0, lambda g: np.roll(g, 1, 2)), "shifted"),
    "conv dx last column": (conv2d.im2col, (X, W), {}, _changed(0, _zero_last(3)), "remainder-lost"),
    "linear dw transposed": (linear.vectorized, ((5, 4), (4, 4)), {}, _changed(1, lambda g: g.T.copy()), "transposed"),
    "linear dw cut": (linear.vectorized, ((5, 4), (3, 4)), {}, _changed(1, np.trunc), "truncated"),
    "linear dx twice": (linear.vectorized, ((5, 4), (3, 4)), {}, _changed(0, lambda g: g * 2), "constant-factor"),
    "linear swapped": (linear.vectorized, ((3, 4), (3, 4)), {}, lambda g: [g[1], g[0], g[2]], "gradients-swapped"),
    "flatten swapped": (
        flatten.vectorized,
        ((3, 2, 4),),
        {},
        _changed(0, lambda g: g.reshape(3, -1).T.reshape(g.shape).copy()),
        "features-batch-swapped",
    ),
    "loss without its sign": (
        softmax_cross_entropy.vectorized,
        ((4, 5), "labels"),
        {},
        _changed(0, np.negative),
        "sign",
    ),
    "loss not averaged": (
        softmax_cross_entropy.vectorized,
        ((4, 5), "labels"),
        {},
        _changed(0, lambda g: g * len(g)),
        "batch-reduction",
    ),
    "loss times four, of as many images": (
        softmax_cross_entropy.vectorized,
        ((4, 5), "labels"),
        {},
        _changed(0, lambda g: g * 4),
        "constant-factor",
    ),
}


def _drawn(shapes: tuple[Any, ...], seed: int) -> tuple[Any, ...]:
    generator = np.random.default_rng(seed)
    return tuple(generator.integers(0, 5, 4) if s == "labels" else generator.normal(size=s) for s in shapes)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_is_named(name: str) -> None:
    implementation, shapes, options, change, code = PLANTED[name]

    def backward(dy: Any, cache: Any) -> Any:
        return tuple(change(list(implementation.backward(dy, cache))))

    for seed in range(3):
        found = certificate_of(implementation.forward, backward, _drawn(shapes, seed), options, seed=seed)
        assert found.verdict == "FAIL"
        assert found.causes[0].code == code, found


def test_the_kernel_not_flipped_is_named() -> None:
    def backward(dy: Any, cache: Any) -> Any:
        _, w = cache
        x, _ = cache
        _, right = conv2d.im2col.forward(x, np.ascontiguousarray(w[..., ::-1, ::-1]))
        _, own = conv2d.im2col.forward(x, w)
        return (conv2d.im2col.backward(dy, right)[0], *conv2d.im2col.backward(dy, own)[1:2])

    found = certificate_of(lambda x, w: (conv2d.im2col.forward(x, w)[0], (x, w)), backward, _drawn((X, W), 0))
    assert [cause.code for cause in found.causes] == ["kernel-not-flipped"]
    assert found.causes[0].argument == "x"


@pytest.mark.parametrize("image", [0, 2])
def test_a_filter_gradient_of_one_image_is_named(image: int) -> None:
    def backward(dy: Any, cache: Any) -> Any:
        alone = np.zeros_like(dy)
        alone[image] = dy[image]
        dx, _, _ = conv2d.im2col.backward(dy, cache)
        return dx, conv2d.im2col.backward(alone, cache)[1], None

    found = certificate_of(conv2d.im2col.forward, backward, _drawn((X, W), 0))
    assert found.causes[0].code == "one-image-only"
    assert f"image {image}" in found.causes[0].explanation


@pytest.mark.parametrize(
    ("slug", "code"), [("flatten-noT", "features-batch-swapped"), ("maxpool-assign", "overlap-assigned")]
)
def test_exhibits_are_named(slug: str, code: str) -> None:
    exhibit = EXHIBITS[slug]
    implementation = exhibit.mutate(flatten.vectorized if exhibit.layer == "flatten" else max_pool2d.im2col)
    x = np.random.default_rng(0).permutation(40).reshape(2, 1, 4, 5).astype(float)
    options = SMALL_POOL if exhibit.layer == "max_pool2d" else {}
    found = certificate_of(implementation.forward, implementation.backward, (x,), options, seed=1)
    assert found.causes[0].code == code, found


def test_backwards_that_ignore_dy_or_accumulate_are_named() -> None:
    total = np.zeros((5, 3))

    def accumulating(dy: Any, w: Any) -> Any:
        total[...] += dy @ w.T
        return (total.copy(),)

    w = np.random.default_rng(0).integers(-4, 5, (3, 2)).astype(float)
    for backward, code in (
        (lambda dy, w: (np.broadcast_to(w.sum(1), (5, 3)).copy(),), "upstream-ignored"),
        (accumulating, "accumulates"),
    ):
        found = certificate_of(lambda x: (x @ w, w), backward, (np.ones((5, 3)),))
        assert found.causes[0].code == code, found


def test_scattered_errors_have_no_name() -> None:
    for seed in range(10):
        generator = np.random.default_rng(seed)
        off = generator.integers(-5, 6, W) * (generator.random(W) < 0.3)

        def backward(dy: Any, cache: Any, off: Any = off) -> Any:
            dx, dw, db = conv2d.im2col.backward(dy, cache)
            return dx, dw + off * dy.flat[0], db

        found = certificate_of(conv2d.im2col.forward, backward, _drawn((X, W), seed))
        assert [cause.code for cause in found.causes] == ["unknown"], found


def test_rewarding_every_tie_is_named() -> None:
    def backward(dy: Any, x: Any) -> Any:
        return (np.where(x == x.max(), dy, 0.0),)

    x = np.array([2.0, 1.0, 2.0, 2.0])
    for seed in range(30):  # four numbers may keep their order in every draw: never taken for a linear function
        found = certificate_of(lambda x: (np.asarray(x.max()), x), backward, (x,), seed=seed)
        assert found.causes[0].code == "all-ties-rewarded", found


@pytest.mark.parametrize("seed", range(10))
def test_ties_of_many_that_get_nothing_are_named(seed: int) -> None:
    """Ties of two are right, and larger ones get nothing: the sentence says from how many on."""
    version = EXHIBITS["max-tie-fp16"].mutate(max_pool2d.im2col)
    x = np.random.default_rng(seed).integers(-2, 2, (1, 2, 10, 10)).astype(float)
    found = certificate_of(*version[1:], (x,), {"kernel_size": 2}, seed=seed)
    assert found.causes[0].code == "wrong-tie-winner", found
    assert "gives nothing to the entries tied where 3 or more are tied" in found.causes[0].explanation


@pytest.mark.parametrize(
    ("failures", "expected"),
    [
        (["a"], "a"),
        (["ba", "ba", "a"], "a"),  # named in all, though first only once
        (["ba", "ca", "ba"], "b"),  # never first: no case would be found that is named so
        (["ab", "ba", "ba"], "b"),  # both named in all
        (["ab", "ba"], "a"),  # the earlier one
        (["baa", "b", "ab"], "b"),  # twice in one failure counts once
    ],
)
def test_failures_are_named_after_what_is_named_in_most_of_them(failures: list[str], expected: str) -> None:
    assert likeliest([[(name, "") for name in names] for names in failures]) == expected


def test_a_name_that_says_the_same_of_each_failure_counts_for_more() -> None:
    """A factor that changes from case to case is no constant one. But a sentence may hold a number of its case."""
    of_batch = "mean", "is 1 / N"
    factors = [("factor", f"is 1 / {n}") for n in range(2, 8)]
    assert likeliest([[factors[0], of_batch], [of_batch, factors[1]], factors[2:3]]) == "factor"  # 3 + 1, 2 + 2: first
    assert likeliest([[of_batch, factor] for factor in factors[:5]] + [factors[5:]]) == "mean"  # 6 + 1, 5 + 5
    assert likeliest([[factor] for factor in factors[:5]] + [[of_batch]] * 2) == "factor"  # 5 + 1, 2 + 2
    assert likeliest([[factor] for factor in factors[:1] * 4 + factors[1:2] * 2] + [[of_batch]] * 5) == "factor"


def test_every_code_has_its_sentence() -> None:
    assert len({each.code for each in CauseCode}) == len(CauseCode)
    page = cause_page()
    assert page.count("\n## `") == page.count("\n- **Look for:** ") == len(CauseCode)
    assert "## `sign`\n\nIt has the opposite sign.\n\n- **Look for:** A loss" in page
    assert "- **Named by:** claimed = -true.\n" in page


def test_every_code_says_what_to_look_for() -> None:
    """A code without advice, or two with one text, would leave a reader with nothing to do."""
    assert list(LOOK_FOR) == list(CauseCode)
    assert len(set(LOOK_FOR.values())) == len(CauseCode)


def test_every_code_that_a_broken_contract_carries_is_a_cause() -> None:
    """The code of a contract is the first string in each call that raises."""
    codes = {each.code for each in CauseCode}
    for module in (contracts, layer):
        for node in ast.walk(ast.parse(inspect.getsource(module))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") in ("ContractError", "_broken", "_same"):
                strings = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
                assert not strings or strings[0] in codes, ast.unparse(node)


def test_the_page_of_causes_is_as_printed() -> None:
    page = Path(__file__).parents[2] / "docs" / "causes.md"
    assert page.read_text(encoding="utf-8") == cause_page(), "python -m verify.diagnosis.causes > docs/causes.md"


# One mutant for each code that neither a contract nor another test here covers; of all, `tox -e calibrate` measures.
CONV = {"stride": (2, 1), "padding": ((2, 0), (0, 1)), "dilation": (1, 2), "groups": 2}
CONV_ARRAYS = ((2, 2, 8, 4), (4, 1, 3, 2), (4,))


@pytest.mark.parametrize(
    "name",
    [
        "conv2d: conv-dx-nostride",
        "conv2d: conv-dw-nostride",
        "conv2d: conv-dx-nodilation",
        "conv2d: conv-dw-nodilation",
        "conv2d: conv-dx-nogroups",
        "conv2d: conv-dw-nogroups",
        "conv2d: conv-groups-dw",
        "conv2d: conv-dx-asym-crop",
        "conv2d: conv-dw-asym-crop",
        "conv2d: conv-rot180",
        "conv2d: conv-dx-leftover",
        "conv2d: col2im-assign",
        "conv2d: dw without y's last row",
        "conv2d: db of the first pixel",
        "conv2d: dw for the first image's dy",
        "conv2d: dx of a dy read channels last",
        "conv2d: the cache before",
        "conv2d: dw through float32",
        "conv2d: gradient 1 with scattered errors",
    ],
)
@pytest.mark.parametrize("large", [False, True], ids=["every entry known", "entries sampled"])
def test_mistakes_of_convolutions_are_named(name: str, large: bool) -> None:
    mutant = next(each for each in MUTANTS if each.name == name)
    shapes: tuple[Any, ...] = ((3, 4, 8, 8), (8, 2, 3, 2), (8,)) if large else CONV_ARRAYS
    assert (np.prod(shapes[1]) > MOST_ENTRIES) == large
    found = certificate_of(
        *mutant.mutate(conv2d.im2col)[1:],
        _drawn(shapes, 0),
        CONV,
        structure="multilinear",
        seed=0,
    )
    assert found.causes[0].code == mutant.code.code, found


@pytest.mark.parametrize("name", [each.name for each in MUTANTS if each.layer in ("max_pool2d", "relu")])
def test_mistakes_at_and_off_ties_are_named(name: str) -> None:
    mutant = next(each for each in MUTANTS if each.name == name)
    shape, options = (2, 2, 6, 5), {"kernel_size": (3, 2), "stride": (2, 1), "padding": (1, 0)}
    layer = max_pool2d.im2col
    if mutant.layer == "relu":
        layer, options = relu.vectorized, {}
    x = np.random.default_rng(0).integers(-3, 4, shape).astype(float)  # ties and zeros abound
    if not mutant.battery:
        found = certificate_of(*mutant.mutate(layer)[1:], (x,), options, seed=0)
        assert found.causes[0].code == mutant.code.code, found


@pytest.mark.parametrize("mutant", [each for each in MUTANTS if each.battery], ids=lambda mutant: mutant.name)
def test_contracts_name_the_mistakes_that_gradcheck_cannot_see(mutant: Mutant) -> None:
    layer = LAYERS[mutant.layer]
    found = (
        causes.guess(mutant.mutate(layer.fast), layer, case, 0, battery=True)
        for case in causes.cases(mutant.layer, 0, 60)
    )
    assert next(filter(None, found)) == mutant.code.code  # at the first case that shows it, for example with N > 1


def test_one_wrong_entry_shows_no_cause() -> None:
    """One negated entry of many is no wrong sign."""

    def backward(dy: Any, cache: Any) -> Any:
        dx, dw, db = conv2d.im2col.backward(dy, cache)
        wrong = np.array(dw)
        wrong[0, 0, 0, 0] *= -1
        return dx, wrong, db

    found = certificate_of(conv2d.im2col.forward, backward, _drawn((X, W), 0))
    assert [cause.code for cause in found.causes] == ["unknown"]


def test_the_evidence_is_counted() -> None:
    def backward(dy: Any, cache: Any) -> Any:
        dx, dw, db = linear.vectorized.backward(dy, cache)
        return dx, -np.asarray(dw), db

    found = certificate_of(linear.vectorized.forward, backward, _drawn(((5, 4), (3, 4)), 0), seed=0)
    assert found.causes[0].explanation == "dw has the opposite sign"
    assert found.headline.startswith("FAIL: dw is wrong in 12 of 12 entries; dw[")


def test_a_layer_that_raises_elsewhere_still_gets_its_verdict() -> None:
    """A layer may raise for options that the caller did not give."""
    calls = []

    def forward(x: Any, *, stride: Any = 2) -> Any:
        if stride != 2:
            calls.append(stride)
            raise RuntimeError("no such stride")
        return 3 * x, None

    found = certificate_of(forward, lambda dy, _: (dy * np.arange(6.0),), (np.ones(6),))
    assert calls
    assert [cause.code for cause in found.causes] == ["unknown"]


def test_causes_cost_no_more_than_their_columns() -> None:
    """A large gradient costs one forward for each sampled entry, the judge's 120 forwards, and as many predictions."""

    def backward(dy: Any, cache: Any) -> Any:
        dx, dw, db = conv2d.im2col.backward(dy, cache)
        return dx, np.asarray(dw)[..., ::-1].copy(), db

    found = certificate_of(conv2d.im2col.forward, backward, _drawn(((2, 8, 20, 20), (16, 8, 3, 3)), 0), seed=0)
    assert found.causes[0].code == "flipped", found
    assert found.forward_calls <= MOST_ENTRIES + 170


def test_an_error_along_directions_alone_does_not_report_0_wrong_entries() -> None:
    def forward(x: Any) -> Any:
        centred = x - x.mean(axis=0)
        inverse = 1 / np.sqrt((centred**2).mean(axis=0) + 1e-5)
        return centred * inverse, (centred, inverse)

    def backward(dy: Any, cache: Any) -> Any:
        centred, inverse = cache
        right = inverse * (dy - dy.mean(axis=0) - centred * inverse**2 * (dy * centred).mean(axis=0))
        return (right * (1 + 5e-7),)

    x = np.random.default_rng(1).normal(size=(8, 5))
    text = str(certificate_of(forward, backward, (x,), structure="smooth", seed=0))
    assert text.startswith("FAIL")
    assert "(0 of" not in text
    assert "no entry is off by enough to say how" in text


def test_of_a_large_layer_a_fail_costs_at_most_eleven_times_what_a_pass_does() -> None:
    def cube(x: Any) -> Any:
        if np.iscomplexobj(x):
            raise TypeError("real numbers only")
        return x * x * x, x

    def check(factor: float) -> Certificate:
        def backward(dy: Any, x: Any) -> Any:
            return (factor * dy * 3 * x * x,)

        x = np.random.default_rng(0).normal(size=(64, 1000))
        return certificate_of(cube, backward, (x,), seed=0)

    right, wrong = check(1.0), check(1.001)
    assert (right.verdict, wrong.verdict) == ("PASS", "FAIL")
    assert wrong.forward_calls <= 11 * right.forward_calls
    assert wrong.causes[0].code == "constant-factor"


def test_a_factor_that_is_the_size_of_the_batch_by_chance_is_a_constant() -> None:
    """Attention scores lack 1 / sqrt(d) in backward: d = 4, and the batch has 2 images."""

    def backward(dy: Any, cache: Any) -> Any:
        q, k = cache
        return dy @ k, dy.swapaxes(1, 2) @ q

    q, k = np.random.default_rng(0).normal(size=(2, 2, 3, 4))
    found = certificate_of(lambda q, k: (q @ k.swapaxes(1, 2) / 2, (q, k)), backward, (q, k), seed=0)
    assert [cause.code for cause in found.causes] == ["constant-factor"]
    assert found.causes[0].argument is None
    assert found.causes[0].explanation.startswith("each of dq and dk is 2 times the true gradient")


def test_without_a_smaller_batch_the_constant_comes_first() -> None:
    def forward(x: Any) -> Any:
        if len(x) != 3:
            raise ValueError("three images, please")
        return np.sin(x), x

    x = np.random.default_rng(0).normal(size=(3, 4))
    found = certificate_of(forward, lambda dy, x: (3 * dy * np.cos(x),), (x,), seed=0)
    assert [cause.code for cause in found.causes] == ["constant-factor", "batch-reduction"]


@pytest.mark.parametrize("seed", range(10))
def test_a_small_factor_of_piecewise_functions_is_not_called_a_clip(seed: int) -> None:
    def forward(a: np.ndarray, b: np.ndarray) -> Any:
        return np.asarray(np.abs(a - b).mean()), a - b

    def backward(dy: np.ndarray, difference: np.ndarray) -> Any:
        db = -dy * np.sign(difference) / difference.size
        return -db * (1 + 1e-6), db

    arrays = tuple(np.random.default_rng(seed).normal(size=(2, 5, 4)))
    found = certificate_of(forward, backward, arrays, seed=seed)
    assert found.verdict == "FAIL"
    assert "not-linear" not in [cause.code for cause in found.causes]
