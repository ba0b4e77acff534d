"""The battery: right layers pass, each check fails for what it is there to find, expected failures are strict."""

from __future__ import annotations

import itertools
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from cnn_core import Implementation, relu
from helpers import result_of
from verify import LayerError, check_layer, parametrize_with_checks, strategies
from verify.battery.checks import CHECKS
from verify.layers import LAYERS, Case, Layer

GENERATOR = np.random.default_rng(0)
# Of each version of each layer; `test_layers.py` draws more.
_EXAMPLES = 2
# The version to use in every run, the others among the long tests.
EACH = [
    pytest.param(layer, each, id=f"{layer.name}-{each.name}", marks=() if each == layer.fast else pytest.mark.long)
    for layer in LAYERS.values()
    for each in layer.implementations
]
X, W = GENERATOR.normal(size=(5, 4)), GENERATOR.normal(size=(4, 3))


@pytest.mark.parametrize(("layer", "implementation"), EACH)
def test_every_layer_passes_every_check(layer: Layer, implementation: Implementation) -> None:
    batch = tuple(k for k, axes in enumerate(layer.axes.values()) if axes.split()[0] == "N")
    report = check_layer(implementation, layer.cases(), structure=layer.structure, batch=batch, examples=_EXAMPLES)
    alone = {"each-gradient-alone"} if len({*layer.names} - {*layer.constants}) == 1 else set()
    unbatched = set() if batch else {"gradients-of-an-empty-batch"}
    assert {result.check for result in report.results if result.verdict == "NOT APPLICABLE"} == alone | unbatched
    assert {result.verdict for result in report.results} <= {"PASS", "NOT APPLICABLE"}
    assert {result.cases for result in report.results} == {_EXAMPLES}


def _forward(x: Any, w: Any) -> Any:
    return x @ w, (x, w)


def _backward(dy: Any, cache: Any) -> Any:
    x, w = cache
    return dy @ w.T, x.T @ dy


def _wrong(dy: Any, cache: Any) -> Any:
    dx, dw = _backward(dy, cache)
    dw[1, 2] *= 1 + 1e-9
    return dx, dw


def _wrong_at_these_weights(dy: Any, cache: Any) -> Any:
    dx, dw = _backward(dy, cache)
    return dx * (1 + np.array_equal(cache[1], W)), dw


def _wrong_in_float32(dy: Any, cache: Any) -> Any:
    dx, dw = _backward(dy, cache)
    return (2 * dx if dx.dtype == np.float32 else dx), dw


def _touches(x: Any, w: Any) -> Any:
    x += 0
    return _forward(x, w)


def _once(dy: Any, cache: Any) -> Any:
    dx, dw = _backward(dy, cache[:2])
    cache[2] += dx
    return cache[2].copy(), dw


_last: list[Any] = []


def _remembers(x: Any, w: Any) -> Any:
    _last[:] = [x, w]
    return x @ w, None


_ticks = itertools.count()


def _ticking(x: Any) -> Any:
    return np.sin(x) + 1e-9 * next(_ticks), x


def _maximum(x: Any) -> Any:
    return np.asarray(x.max()), x


def _identity(x: Any) -> Any:
    return x.copy(), None


def _in_memory_order(dy: Any, cache: Any) -> Any:
    return (dy.ravel(order="K").reshape(dy.shape).copy(),)


def _forward_in_memory_order(x: Any) -> Any:
    return x.ravel(order="K").reshape(x.shape).copy(), None


def _rounded(dy: Any, cache: Any) -> Any:
    return (np.clip(dy * np.cos(cache), -2, 2),)


# What is done to a layer -> forward, backward, arrays, and the checks that must fail, and no others.
MUTANTS: dict[str, tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...], set[str]]] = {
    "one entry off by a billionth": (
        _forward,
        _wrong,
        (X, W),
        {"all-gradients-together", "each-gradient-alone", "gradients-at-ties", "gradients-at-zeros"},
    ),
    "wrong at the weights given alone": (_forward, _wrong_at_these_weights, (X, W), {"each-gradient-alone"}),
    "twice the gradient in float32": (_forward, _wrong_in_float32, (X, W), {"gradients-in-the-other-precision"}),
    "all ties rewarded": (
        _maximum,
        lambda dy, x: (np.where(x == x.max(), dy, dy.dtype.type(0)),),
        (X,),
        {"gradients-at-ties"},
    ),
    "relu'(0) = 1": (
        relu.vectorized.forward,
        lambda dy, cache: (np.where(cache.x >= 0, dy, dy.dtype.type(0)),),
        (X,),
        {"gradients-at-zeros"},
    ),
    "wrong at zeros of what is linear": (
        lambda x: (2 * x, x),
        lambda dy, x: ((dy * np.where(x == 0, 3, 2)).astype(x.dtype),),
        (X,),
        {"gradients-at-zeros"},
    ),
    "no empty batch": (
        lambda x: (x.reshape(len(x), -1), x.shape),
        lambda dy, shape: (dy.reshape(shape).copy(),),
        (X,),
        {"gradients-of-an-empty-batch"},
    ),
    "an argument written to, though not changed": (
        _touches,
        _backward,
        (X, W),
        {"arguments-are-left-alone"},
    ),
    "dy handed on": (
        _identity,
        lambda dy, cache: (dy,),
        (X,),
        {"gradients-alias-nothing", "a-second-backward-gives-the-same"},
    ),
    "dy read in memory order": (_identity, _in_memory_order, (X,), {"any-layout-of-dy-serves"}),
    "x read in memory order": (
        _forward_in_memory_order,
        lambda dy, cache: (dy.copy(),),
        (X,),
        {"any-layout-of-the-arrays-serves"},
    ),
    "accumulates in its cache": (
        lambda x, w: (x @ w, [x, w, np.zeros_like(x)]),
        _once,
        (X, W),
        # Whatever calls backward twice for one forward.
        {"a-second-backward-gives-the-same", "another-forward-disturbs-nothing"},
    ),
    "a dy of 1 counts twice": (
        _identity,
        lambda dy, x: (np.where(np.abs(dy) == 1, 2 * dy, dy),),
        (X,),
        {"backward-is-linear-in-dy"},
    ),
    "one cache for all": (
        _remembers,
        lambda dy, cache: _backward(dy, _last),
        (X, W),
        {"another-forward-disturbs-nothing"},
    ),
    "never the same": (
        _ticking,
        lambda dy, x: (dy * np.cos(x),),
        (X,),
        {"the-same-call-gives-the-same-result", "any-layout-of-the-arrays-serves"},
    ),
    "float64 for float32": (
        lambda x: (np.sin(x).astype(np.result_type(x, np.float64)), x),
        lambda dy, x: ((dy * np.cos(x)).astype(x.dtype),),
        (X,),
        {"dtypes-and-shapes-are-kept"},
    ),
}


@pytest.mark.parametrize("mutant", MUTANTS)
def test_each_check_fails_for_what_it_is_there_to_find(mutant: str) -> None:
    forward, backward, arrays, failing = MUTANTS[mutant]
    batch = [] if forward is _maximum else [0]
    report = result_of(check_layer, (forward, backward), [(arrays, {})], batch=batch)
    assert {result.check for result in report.results if result.verdict == "FAIL"} == failing, report
    undecided = {"INCONCLUSIVE"} if forward is _ticking else set()
    assert {result.verdict for result in report.results} <= {"FAIL", "PASS", "NOT APPLICABLE"} | undecided
    assert not report


def test_a_gradient_that_is_clipped_is_not_linear_in_dy() -> None:
    layer = (lambda x: (np.sin(x), x)), _rounded
    report = result_of(check_layer, layer, [((X,), {})], checks=["backward-is-linear-in-dy"])
    assert "dx is not linear in dy: off by" in report["backward-is-linear-in-dy"].note


def test_a_backward_that_does_not_vanish_with_dy_is_not_linear() -> None:
    layer = _identity, lambda dy, cache: (dy + 1,)
    report = result_of(check_layer, layer, [((X,), {})], checks=["backward-is-linear-in-dy"])
    assert report["backward-is-linear-in-dy"].note == "dx is not 0 where dy is 0"


def test_ties_are_looked_at_where_the_layer_is_linear_too() -> None:
    def backward(dy: Any, x: Any) -> Any:
        return (np.where((x.ravel()[:, None] == x.ravel()).sum(axis=1) > 1, 3, 2).reshape(x.shape) * dy,)

    layer = (lambda x: (2 * x, x)), backward
    report = result_of(check_layer, layer, [((X,), {})], checks=["gradients-at-ties"])
    assert report["gradients-at-ties"].verdict == "FAIL"


def test_every_check_fails_for_some_mutant() -> None:
    tested = set().union(*(failing for *_, failing in MUTANTS.values()))
    assert tested == set(CHECKS)


def _math_log(x: Any) -> Any:
    return np.array([math.log(entry) for entry in x.tolist()]), x


def test_what_does_not_apply_says_why() -> None:
    report = check_layer(
        (_math_log, lambda dy, x: (dy / x,)),
        [((np.array([1.0, 2.0, 0.5]),), None)],
        expected_failures={"dtypes-and-shapes-are-kept": "Python's floats are float64"},
    )
    notes = {result.check: result.note for result in report.results if result.verdict == "NOT APPLICABLE"}
    assert notes == {
        "each-gradient-alone": "there is one gradient",
        "gradients-in-the-other-precision": "the layer computes in float64 for arrays of float32",
        "gradients-at-zeros": f"the layer refuses zeros: {_message(lambda: math.log(0))}",
        "gradients-of-an-empty-batch": "no array is said to have a batch axis",
    }
    assert report["dtypes-and-shapes-are-kept"][1:4] == ("EXPECTED FAILURE", 1, "Python's floats are float64")
    assert report


def _message(call: Callable[[], Any]) -> str:
    try:
        call()
    except ValueError as error:
        return str(error)
    raise AssertionError("it raised nothing")


def _silu(x: Any) -> Any:
    return x / (1 + np.exp(-x)), x


@pytest.mark.parametrize(("off", "verdict"), [(0.0, "PASS"), (1e-2, "FAIL")])
def test_where_float32_is_too_coarse_for_differences_float64_acquits_and_does_not_convict(
    off: float, verdict: str
) -> None:
    def backward(dy: Any, x: Any) -> Any:
        s = 1 / (1 + np.exp(-x))
        return ((dy * (s + x * s * (1 - s)) * (1 + off * (x.dtype == np.float32))).astype(x.dtype),)

    case: Any = (np.random.default_rng(0).normal(size=(60, 50)),), {}
    name = "gradients-in-the-other-precision"
    report = result_of(check_layer, (_silu, backward), [case], checks=[name])
    assert report[name].verdict == verdict


def test_zeros_outside_the_domain_do_not_apply() -> None:
    report = check_layer((lambda x: (np.log(x), x), lambda dy, x: (dy / x,)), [((np.abs(X),), {})])
    assert report["gradients-at-zeros"].note == "y is not finite at zeros"


def test_the_report_is_a_table_and_says_what_failed_where() -> None:
    with pytest.raises(LayerError) as caught:
        check_layer((_forward, _wrong), [((X, W), {})], expected_failures={"gradients-at-ties": "known"})
    text = str(caught.value)
    assert text.startswith("_forward: 15 checks in ")
    assert "\n  all-gradients-together                  1 case   FAIL\n" in text
    assert "\n  gradients-at-ties                       1 case   EXPECTED FAILURE  (known)\n" in text
    assert "\nall-gradients-together, at x float64 (5, 4), w float64 (4, 3):\n  FAIL: dw is wrong in " in text
    assert "  gradients-at-zeros                      1 case   FAIL  (as above: all-gradients-together)\n" in text
    assert text.count("worst entry dw[1, 2]") == 1
    assert pickle.loads(pickle.dumps(caught.value)).report == caught.value.report


def test_what_was_expected_to_fail_and_does_not_is_a_failure() -> None:
    expected = {"gradients-at-zeros": "rewards zeros", "gradients-of-an-empty-batch": "takes no empty batch"}
    report = result_of(check_layer, relu.naive, [((X,), {})], expected_failures=expected)
    assert not report
    assert report["gradients-at-zeros"].verdict == "FAIL"
    assert report["gradients-at-zeros"].note == "it passed, but was expected to fail: rewards zeros"
    assert report["gradients-of-an-empty-batch"].note.startswith("it did not apply (no array is said to have a")


def test_a_structure_that_does_not_hold_is_no_pass() -> None:
    report = result_of(check_layer, relu.naive, [((X,), {})], structure="multilinear")
    assert report["all-gradients-together"].verdict == "INCONCLUSIVE"
    assert report["all-gradients-together"].note.startswith("no multilinear function here: not affine in x")
    assert not report


def test_of_a_layer_that_breaks_the_convention_every_check_says_so() -> None:
    report = result_of(check_layer, (lambda x: np.sin(x), lambda dy, x: dy), [((X,), {})])
    sentence = "forward must return (y, cache), got ndarray"
    assert [result.note for result in report.results] == [sentence] + 14 * ["as above: all-gradients-together"]
    assert {result.verdict for result in report.results} == {"FAIL"}
    assert str(report).endswith(f"\nall-gradients-together, at x float64 (5, 4):\n  {sentence}")


class Dense:
    """A layer that keeps its cache and its parameter in itself."""

    def __init__(self) -> None:
        self.W = W.copy()

    def forward(self, x: Any) -> Any:
        """y = x W."""
        self.x = x
        return x @ self.W

    def backward(self, dy: Any) -> Any:
        """The gradient of x; that of W is left behind."""
        self.dW = self.x.T @ dy
        return dy @ self.W.T


@pytest.mark.parametrize("layer", [Dense, Dense()], ids=["class", "instance"])
def test_a_layer_with_its_cache_in_itself_is_checked_with_its_own_parameters(layer: Any) -> None:
    expected = {"another-forward-disturbs-nothing": "one cache at a time"}
    report = check_layer(layer, [((X,), {})], expected_failures=expected, batch=[0])
    assert report["each-gradient-alone"].verdict == "PASS"  # of x and W
    report = result_of(check_layer, layer, [((X, 2 * W), {})], checks=list(expected))
    assert report.results[0].note == "dW differs after another forward"
    assert report.results[0].case == "x float64 (5, 4), W float64 (4, 3)"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"batch": 0}, r"batch must be a sequence of the positions of arrays, such as \(0,\), got 0"),
        ({"cases": iter(())}, "cases is an iterator that is exhausted"),
        ({"cases": []}, "cases is empty"),
        ({"cases": 3}, r"cases must be a sequence of \(arrays, options\), or a strategy of them, got 3"),
        ({"cases": st.just(((X,), {})), "examples": 0}, "examples must be a whole number from 1 up, got 0"),
        ({"examples": 3}, "examples=3 is for a strategy"),
    ],
)
def test_a_call_that_cannot_be_says_so_at_once(wrong: dict[str, Any], message: str) -> None:
    settings: dict[str, Any] = {"cases": [((X,), {})], **wrong}
    with pytest.raises((TypeError, ValueError), match=message):
        check_layer(relu.naive, **settings)


def test_the_first_case_that_fails_ends_a_check() -> None:
    cases: list[Any] = [((np.ones((2, 1)), np.ones((1, 1))), {}), ((X, W), {}), ((X, W), {})]
    report = result_of(check_layer, (_forward, _wrong_at_these_weights), cases, checks=["each-gradient-alone"])
    assert report.results[0][1:3] == ("FAIL", 2)
    assert report.results[0].case == "x float64 (5, 4), w float64 (4, 3)"


def _cases() -> st.SearchStrategy[Case]:
    shapes = st.tuples(st.integers(1, 6), st.integers(1, 6))
    return shapes.flatmap(strategies.integers).map(lambda x: Case((x,), {}))


@pytest.mark.parametrize("seed", range(3))
def test_a_case_that_fails_shrinks_to_the_smallest_with_the_same_cause(seed: int) -> None:
    failed: list[int] = []

    def backward(dy: Any, cache: Any) -> Any:
        if dy.size >= 4:
            failed.append(dy.size)
            return (dy.ravel(),)
        return (2 * dy if failed else dy.copy(),)  # from then on smaller cases fail, too, but otherwise

    report = result_of(
        check_layer,
        (_identity, backward),
        _cases(),
        checks=["all-gradients-together"],
        examples=50,
        seed=seed,
    )
    (result,) = report.results
    assert result.verdict == "FAIL"
    assert result.case.removeprefix("x float64 ") in ("(1, 4)", "(4, 1)", "(2, 2)"), result


def test_a_layer_that_fails_at_random_fails() -> None:
    calls = itertools.count()

    def backward(dy: Any, cache: Any) -> Any:
        return (dy[:0] if next(calls) == 40 else dy.copy(),)

    report = result_of(check_layer, (_identity, backward), _cases(), checks=["all-gradients-together"], examples=50)
    assert report.results[0].verdict == "FAIL"


@pytest.mark.parametrize(
    ("error", "sentence", "arguments", "keywords"),
    [
        (TypeError, "is no layer: give a pair", ((_forward, None), [((X, W), {})]), {}),
        (TypeError, "is no layer: give a pair", (_forward, [((X, W), {})]), {}),
        (TypeError, r"a case is \(arrays, options\), .* got a tuple of 2", ((_forward, _backward), [(X, W)]), {}),
        (TypeError, r"a case is \(arrays, options\), .* got a ndarray", (relu.naive, [X]), {}),
        (ValueError, "cases is empty", (relu.naive, []), {}),
        (ValueError, r"x\[0\] is nan: arrays must be finite", (relu.naive, [((np.array([np.nan]),), {})]), {}),
        (TypeError, "forward takes x; it cannot be called with", (relu.naive, [((X,), {"axis": 1})]), {}),
        (
            ValueError,
            "expected_failures: no check is called 'ties'; there are all-gradients-together, each-",
            (relu.naive, [((X,), {})]),
            {"expected_failures": {"ties": "because"}},
        ),
        (ValueError, "checks: no check is called 'speed'; there are", (relu.naive, []), {"checks": ["speed"]}),
        (ValueError, "checks must name some of all-gradients-together", (relu.naive, []), {"checks": []}),
        (ValueError, "examples=9 is for a strategy of cases", (relu.naive, [((X,), {})]), {"examples": 9}),
        (ValueError, "structure must be", (relu.naive, [((X,), {})]), {"structure": "linear"}),
        (
            ValueError,
            r"batch must have positions of arrays with axes, among 1 arrays, got \(1,\)",
            (relu.naive, [((X,), {})]),
            {"batch": [1]},
        ),
    ],
)
def test_bad_arguments_are_refused_with_their_values(
    error: type[Exception], sentence: str, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    with pytest.raises(error, match=sentence):
        check_layer(*arguments, **keywords)


class _Scale:
    """A layer with state, as classes have it."""

    def forward(self, x: Any) -> Any:
        return 2 * x, None

    def backward(self, dy: Any, cache: Any) -> Any:
        return (2 * dy,)


@parametrize_with_checks(
    {"relu": relu.vectorized, "scale": _Scale()},
    cases={"relu": _cases(), "scale": [((X,), {})]},
    batch=[0],
)
def test_the_decorator_serves_here_too(layer: Any, check: Any) -> None:
    check(layer)


TESTS = """
    import numpy as np
    from verify import parametrize_with_checks

    def double(x):
        return 2 * x, None

    def right(dy, cache):
        return (2 * dy,)

    def wrong(dy, cache):
        return (3 * dy,)

    CASES = [((np.ones((2, 3)),), {})]
    ALL = ["all-gradients-together", "gradients-in-the-other-precision", "gradients-at-ties", "gradients-at-zeros"]
    CURED = {"all-gradients-together": "three for two", "each-gradient-alone": "there is one"}

    @parametrize_with_checks(
        {"right": (double, right), "wrong": (double, wrong), "known": (double, wrong), "cured": (double, right)},
        CASES,
        expected_failures={"known": dict.fromkeys(ALL, "three for two"), "cured": CURED},
    )
    def test_layer(layer, check):
        check(layer)
"""


def test_each_layer_and_check_is_a_test_and_expected_failures_are_strict(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess("-rA", "-p", "no:cacheprovider")
    # Of four layers 15 checks each; of each layer two do not apply, but a failure expected there did not come.
    result.assert_outcomes(failed=4 + 2, passed=60 - 4 - 2 - 4 - 7, skipped=7, xfailed=4)
    result.stdout.fnmatch_lines(
        [
            "SKIPPED [[]4[]] *: no array is said to have a batch axis",
            "XFAIL *::test_layer[[]known-all-gradients-together[]] - three for two",
            "FAILED *::test_layer[[]wrong-all-gradients-together[]]*",
            "FAILED *::test_layer[[]cured-all-gradients-together[]]*",
            "FAILED *::test_layer[[]cured-each-gradient-alone[]]*",
        ],
        consecutive=False,
    )


@pytest.mark.parametrize(
    ("error", "sentence", "arguments", "keywords"),
    [
        (ValueError, "layers need different names: .* got 2 layers called naive", ([relu.naive, relu.naive], []), {}),
        (ValueError, "layers need different names: .* got 0 layers called nothing", ([], []), {}),
        (TypeError, "is no layer: give a pair", ([_forward], []), {}),
        (ValueError, "cases must map the layers' names, relu; got tanh", ({"relu": relu.naive}, {"tanh": []}), {}),
        (
            ValueError,
            "expected_failures must map the layers' names, relu; got tanh",
            ({"relu": relu.naive}, []),
            {"expected_failures": {"tanh": {}}},
        ),
        (
            ValueError,
            "expected_failures: no check is called 'speed'",
            ({"relu": relu.naive}, []),
            {"expected_failures": {"speed": "slow"}},
        ),
        (TypeError, "layers must be a sequence of layers, or map names to them, got None", (None, []), {}),
        (
            TypeError,
            r"expected_failures must map names of checks to reasons, got \['a'\]",
            ({"relu": relu.naive}, []),
            {"expected_failures": ["a"]},
        ),
        (
            TypeError,
            "expected_failures: the reason of gradients-at-ties must be a text, got None",
            ({"relu": relu.naive}, []),
            {"expected_failures": {"gradients-at-ties": None}},
        ),
    ],
)
def test_the_decorator_refuses_what_cannot_be(
    error: type[Exception], sentence: str, arguments: tuple[Any, ...], keywords: dict[str, Any]
) -> None:
    with pytest.raises(error, match=sentence):
        parametrize_with_checks(*arguments, **keywords)
