"""Where the reference tells little: a gradient that is 0, flat zones, kinks everywhere, rounding that hides an error.

Right gradients pass there, wrong ones do not, and what a pass says it would have caught is true.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks.calibrate import sabotage
from benchmarks.calibrate.zoo import ZOO
from verify.checker.certificate import Certificate
from verify.checker.check import gradcheck

SEEDS = pytest.mark.parametrize("seed", range(5))


def check(forward: Any, backward: Any, *arrays: np.ndarray, seed: int, structure: str = "auto") -> Certificate:
    """A check that does not raise."""
    return gradcheck(forward, backward, arrays, structure=structure, seed=seed, raise_on_failure=False)


def drawn(seed: int, *shape: int) -> np.ndarray:
    """Normal numbers."""
    return np.random.default_rng(seed).normal(size=shape)


def real(*arrays: np.ndarray) -> None:
    """Refuse complex numbers, as a layer in C does."""
    if any(np.iscomplexobj(array) for array in arrays):
        raise TypeError("real numbers only")


def normalised(x: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Any]:
    """What b adds to every image the batch normalisation takes away."""
    z = x + b
    centred = z - z.mean(0)
    scale = 1 / np.sqrt((centred * centred).mean(0))
    return centred * scale, (centred * scale, scale)


def normalised_back(dy: np.ndarray, cache: Any) -> tuple[np.ndarray, np.ndarray]:
    y, scale = cache
    dx = scale * (dy - dy.mean(0) - y * (dy * y).mean(0))
    return dx, dx.sum(0)


def normalised_by_c(x: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Any]:
    real(x, b)
    return normalised(x, b)


@SEEDS
@pytest.mark.parametrize("forward", [normalised, normalised_by_c])
def test_a_bias_that_a_normalisation_takes_away_has_a_gradient_of_0(forward: Any, seed: int) -> None:
    x, b = drawn(seed, 8, 3), drawn(seed + 1, 3)
    certificate = check(forward, normalised_back, x, b, seed=seed)
    assert certificate.verdict == "PASS", certificate
    assert certificate.detection_floor is not None
    assert certificate.detection_floor < 1e-6  # that of dx: that of db is said beside it
    assert certificate.arguments[1].note == "" or "0 to within" in certificate.arguments[1].note
    for wrong in (lambda dx: dx + 1e-3, lambda dx: np.full(3, 1e-6)):
        off = check(forward, lambda dy, c, w=wrong: (normalised_back(dy, c)[0], w(dy.sum(0))), x, b, seed=seed)
        assert [result.verdict for result in off.arguments] == ["PASS", "FAIL"], off


@SEEDS
@pytest.mark.parametrize("structure", ["analytic", "smooth", "auto"])
def test_a_gradient_that_is_small_at_these_arrays_alone_is_not_taken_for_0(structure: str, seed: int) -> None:
    x = 18 + 0.1 * np.abs(drawn(seed, 4))  # 1 - tanh(x)^2 is an ulp of 1 or two

    def tanh(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = np.tanh(x)
        return y, y

    certificate = check(tanh, lambda dy, y: (dy * (1 - y * y),), x, seed=seed, structure=structure)
    assert certificate.verdict == "INCONCLUSIVE", certificate
    assert certificate.structure == ("smooth" if structure == "smooth" else "analytic")  # which says more


def shrunk(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.where(x > 0.5, x - 0.5, np.where(x < -0.5, x + 0.5, 0.0)), x


@SEEDS
def test_a_dead_zone_excuses_no_gradient_outside_it(seed: int) -> None:
    x = 2 * drawn(seed, 4, 6)

    def verdict(backward: Any) -> str:
        return check(shrunk, backward, x, seed=seed).verdict

    assert verdict(lambda dy, x: (dy * (abs(x) > 0.5),)) == "PASS"
    assert verdict(lambda dy, x: (dy * (x > 0.5),)) == "FAIL"
    assert verdict(lambda dy, x: (dy * (abs(x) > 0.5) / 2,)) == "FAIL"
    assert verdict(lambda dy, x: (dy * (abs(x) > 0.5) * (1 + 1e-6 * (x == x.max())),)) == "FAIL"
    # Wrong where y is flat, or a function that does not feel short steps?
    assert verdict(lambda dy, x: (dy,)) != "PASS"


@SEEDS
def test_what_rounds_its_argument_to_a_grid_is_no_dead_zone(seed: int) -> None:
    x = drawn(seed, 4, 6)
    certificate = check(lambda x: (np.rint(x * 64) / 64, x), lambda dy, _: (dy,), x, seed=seed)
    assert certificate.verdict == "INCONCLUSIVE", certificate


def elu(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    real(x)
    return np.where(x > 0, x, 2 * np.expm1(x)), x


@SEEDS
def test_where_every_entry_is_at_a_kink_no_error_is_said_to_be_caught(seed: int) -> None:
    def back(at_zero: float) -> Any:
        return lambda dy, x: (dy * np.where(x == 0, at_zero, np.where(x > 0, 1.0, 2 * np.exp(x))),)

    between = check(elu, back(1.2), np.zeros((3, 4)), seed=seed)
    assert between.verdict == "PASS"
    assert between.detection_floor is None
    assert "12 of 12 entries at kinks" in str(between)
    assert "what would have been caught is said above" in str(between)
    assert check(elu, back(2.1), np.zeros((3, 4)), seed=seed).verdict == "FAIL"
    some = check(elu, back(1.2), np.array([0.0, 1.5, -0.7]), seed=seed)
    assert some.verdict == "PASS"
    assert some.detection_floor is not None


@SEEDS
@pytest.mark.parametrize("slope", [0.1, 0.01])
def test_slopes_that_round_are_one_sided_derivatives_too(slope: float, seed: int) -> None:
    def leaky(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        real(x)
        return np.where(x > 0, x, slope * x), x

    def back(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        return (dy * np.where(x > 0, 1, slope),)

    assert check(leaky, back, np.zeros((3, 4)), seed=seed, structure="smooth").verdict == "PASS"


@SEEDS
def test_where_rounding_would_hide_an_error_differences_are_asked(seed: int) -> None:
    x = 1e6 * (np.random.default_rng(seed).random((4, 5)) + 0.5)

    def logarithm(factor: float) -> Certificate:
        return check(lambda x: (np.log(x), x), lambda dy, x: (factor * dy / x,), x, seed=seed)

    right = logarithm(1)
    assert right.verdict == "PASS"
    assert right.structure == "smooth"
    assert right.detection_floor is not None
    assert right.detection_floor < 1e-6
    assert "analytic, but rounding would hide an error of" in str(right)
    assert [logarithm(factor).verdict for factor in (1.0001, 1.01, 1.02, 1.1)] == ["FAIL"] * 4


def grown(off: float, seed: int) -> Certificate:
    """exp(3 x), whose gradient is off by a little everywhere."""

    def forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        real(x)
        return np.exp(3 * x), x

    return check(forward, lambda dy, x: (3 * dy * np.exp(3 * x) * (1 + off),), drawn(seed, 16), seed=seed)


@SEEDS
@pytest.mark.parametrize("off", [3e-10, 1e-9, 1e-8])
def test_the_worst_entry_is_off_by_more_than_its_tolerance(off: float, seed: int) -> None:
    worst = grown(off, seed).worst
    assert worst is not None
    assert abs(worst.analytic - worst.numeric) > worst.tolerance


def test_an_error_that_no_entry_shows_alone_is_told_as_one_of_all_together() -> None:
    certificate = grown(3e-11, 9)
    assert certificate.verdict == "FAIL"
    assert "no entry alone is off by more than its tolerance, but all together are: off by" in str(certificate)


def large_loss(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    real(x)
    return np.asarray(x.dtype.type(1e5) + np.sin(x).sum(dtype=x.dtype)), x


def beside_large(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    real(x)
    return np.concatenate([[1e12], np.sin(x)]), x


@SEEDS
@pytest.mark.parametrize("factor", [0, -1, 1.01])
def test_a_large_number_beside_hides_no_dependence(factor: float, seed: int) -> None:
    x = drawn(seed, 4)
    single = x.astype(np.float32)
    wrong = check(large_loss, lambda dy, x: (np.float32(factor) * dy * np.cos(x),), single, seed=seed)
    assert wrong.verdict != "PASS", wrong
    wrong = check(beside_large, lambda dy, x: (factor * dy[1:] * np.cos(x),), x, seed=seed)
    assert wrong.verdict != "PASS", wrong
    small = check(lambda x: (1 + 1e-13 * np.sin(x), x), lambda dy, x: (0 * dy,), x, seed=seed, structure="smooth")
    assert small.verdict != "PASS", small


@SEEDS
def test_differences_convict_nobody_whom_the_complex_step_saw_to_be_right(seed: int) -> None:
    x = 1e8 + drawn(seed, 8, 4)

    def backward(dy: np.ndarray, cache: Any, factor: float = 1.0) -> tuple[np.ndarray]:
        return (factor * normalised_back(dy, cache)[0],)

    def of_x(x: np.ndarray) -> tuple[np.ndarray, Any]:
        return normalised(x, np.zeros(4))

    assert check(of_x, backward, x, seed=seed).verdict != "FAIL"  # of eight digits left
    assert check(of_x, backward, x - 9e7, seed=seed).verdict == "PASS"
    assert check(of_x, lambda dy, c: backward(dy, c, 1.1), x, seed=seed).verdict == "FAIL"


@SEEDS
def test_beside_one_large_entry_steps_are_not_all_as_long(seed: int) -> None:
    x = np.append(drawn(seed, 299), 1e9)

    def forward(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        real(x)
        return x + np.tanh(x), x

    def backward(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        return (dy * (2 - np.tanh(x) ** 2),)

    assert check(forward, backward, x, seed=seed, structure="smooth").verdict != "FAIL"


@pytest.mark.parametrize("seed", [764, 1064])
def test_a_fast_function_on_a_grid_convicts_nobody(seed: int) -> None:
    verdict, _ = sabotage.check(ZOO[seed % len(ZOO)], "step-blind", seed)
    assert verdict != "FAIL"


@SEEDS
def test_an_error_of_a_billionth_at_a_kink_is_no_rounding(seed: int) -> None:
    """Such an error was taken for a backward that rounds, and the structure declared for wrong."""

    def backward(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        dx = dy * (x > 0)
        dx[np.unravel_index(np.abs(dx).argmax(), dx.shape)] *= 1 + 1e-10
        return (dx,)

    x = drawn(seed, 60, 70)
    certificate = check(lambda x: (np.maximum(x, 0), x), backward, x, seed=seed, structure="piecewise-linear")
    assert certificate.verdict == "FAIL"


@SEEDS
def test_differences_of_an_ill_conditioned_inverse_convict_nobody(seed: int) -> None:
    left, right = (np.linalg.qr(drawn(seed + each, 6, 6))[0] for each in (0, 9))
    x = left * np.logspace(0, -11, 6) @ right

    def inverse(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = np.linalg.inv(x)
        return y, y

    assert check(inverse, lambda dy, y: (-y.T @ dy @ y.T,), x, seed=seed).verdict != "FAIL"


@pytest.mark.parametrize("factor", [0, 1, 3])
def test_a_complex_result_of_complex_constants_is_refused(factor: int) -> None:
    x, z = drawn(0, 3, 4), drawn(1, 3, 4) + 1j * drawn(2, 3, 4)
    certificate = gradcheck(
        lambda x, z: (x * z, z), lambda dy, z: (factor * (dy * z).real, None), (x, z), wrt=[0], raise_on_failure=False
    )
    assert certificate.verdict == "FAIL"
    assert "return both parts, in one real array" in str(certificate)


def test_complex_constants_are_held() -> None:
    x, z = drawn(0, 3, 4), drawn(1, 3, 4) + 1j * drawn(2, 3, 4)

    def checked(factor: float) -> Certificate:
        return gradcheck(
            lambda x, z: (np.sin(x) * np.abs(z), (x, z)),
            lambda dy, c: (factor * dy * np.cos(c[0]) * np.abs(c[1]), None),
            (x, z),
            wrt=[0],
            seed=0,
            raise_on_failure=False,
        )

    assert checked(1).verdict == "PASS"
    assert "z holds complex numbers" in str(checked(1))  # and none was cast to a real one
    assert checked(1.001).verdict == "FAIL"


def rows_of_length_1(x: np.ndarray) -> tuple[np.ndarray, Any]:
    """The rows of x, of length 1, but that of zeros: as PyTorch's normalize, beside 0 it is as steep as 10^12."""
    real(x)
    length = np.maximum(np.sqrt((x * x).sum(1, keepdims=True)), 1e-12)
    return x / length, (x / length, length)


def rows_of_length_1_back(dy: np.ndarray, cache: Any, at_zero: float = 1.0) -> tuple[np.ndarray]:
    y, length = cache
    along = (dy * y).sum(1, keepdims=True)
    return ((dy - y * along) / length * np.where(length > 1e-12, 1.0, at_zero),)


@SEEDS
def test_what_only_the_shortest_step_shows_is_not_called_wrong(seed: int) -> None:
    x = drawn(seed, 4, 5)
    x[2] = 0
    certificate = check(rows_of_length_1, rows_of_length_1_back, x, seed=seed)
    assert certificate.verdict == "INCONCLUSIVE", certificate
    assert "changes too fast beside x[2, " in certificate.arguments[0].note
    # Not if no step is as steep as claimed.
    for off in (-1.0, 1e-5):
        wrong = check(rows_of_length_1, lambda dy, cache, off=off: rows_of_length_1_back(dy, cache, off), x, seed=seed)
        assert wrong.verdict == "FAIL", wrong


def attention(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> tuple[np.ndarray, Any]:
    """So large are q and k here that each row takes one row of v."""
    real(q, k, v)
    scores = q @ k.T / 2
    p = np.exp(scores - scores.max(1, keepdims=True))
    p /= p.sum(1, keepdims=True)
    return p @ v, (q, k, v, p)


def attention_back(dy: np.ndarray, cache: Any, wrong: float = 0.0) -> tuple[np.ndarray, ...]:
    q, k, v, p = cache
    # What has to cancel is rounded before.
    scores = p * (dy @ v.T - (dy * (p @ v)).sum(1, keepdims=True)) / 2 + wrong
    return scores @ k, scores.T @ q, p.T @ dy


@SEEDS
def test_what_backward_itself_rounds_by_is_not_called_wrong(seed: int) -> None:
    arrays = [1000 * drawn(seed + i, 5, 4) for i in range(3)]
    certificate = check(attention, attention_back, *arrays, seed=seed)
    assert certificate.verdict != "FAIL", certificate
    wrong = check(attention, lambda dy, cache: attention_back(dy, cache, 1e-9), *arrays, seed=seed)
    assert wrong.verdict == "FAIL", wrong


# Slopes at 0 ahead and behind, and what follows: sin and 2 sinh; SELU (Klambauer et al. 2017), where short steps round.
BENT: dict[str, Any] = {
    "sin": (1.0, 2.0, np.sin, np.cos, lambda x: 2 * np.sinh(x), lambda x: 2 * np.cosh(x)),
    "selu": (
        1.05,
        1.75,
        lambda x: 1.05 * x,
        lambda x: 1.05 + 0 * x,
        lambda x: 1.75 * np.expm1(x),
        lambda x: 1.75 * np.exp(x),
    ),
}


@SEEDS
@pytest.mark.parametrize("off", [1e-7, -1e-7])
@pytest.mark.parametrize("name", BENT)
def test_a_claim_at_a_kink_is_held_to_its_interval_whatever_else_is_moved(name: str, off: float, seed: int) -> None:
    low, high, ahead, slope_ahead, behind, slope_behind = BENT[name]
    x = np.rint(1.5 * drawn(seed + 100, 4, 5))
    place = tuple(np.argwhere(x == 0)[0])

    def forward(x: np.ndarray) -> tuple[np.ndarray, Any]:
        real(x)
        return np.where(x > 0, ahead(x), behind(x)), x

    def back(dy: np.ndarray, x: np.ndarray, off: float = off) -> tuple[np.ndarray]:
        slopes = np.where(x > 0, slope_ahead(x), slope_behind(x))
        slopes[place] = high + off if off > 0 else low + off
        return (dy * slopes,)

    wrong = check(forward, back, x, seed=seed)
    assert wrong.verdict == "FAIL", wrong
    right = check(forward, lambda dy, x: back(dy, x, -off * 1e-5), x, seed=seed)
    assert right.verdict == "PASS", right
    known = float(right.arguments[0].note.split(", to ")[1].split()[0])
    assert 0 < known < 1e-7


@SEEDS
@pytest.mark.parametrize(("off", "verdict"), [(0, "INCONCLUSIVE"), (0.01, "INCONCLUSIVE"), (0.1, "FAIL")])
def test_kinks_that_are_not_known_to_a_thousandth_are_undecided(off: float, verdict: str, seed: int) -> None:
    x = np.rint(1.5 * drawn(seed + 100, 4, 5))

    def forward(x: np.ndarray) -> tuple[np.ndarray, Any]:
        real(x)
        return np.where(x > 0, x + np.abs(x) ** 1.2, -np.sin(x)), x

    def backward(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        slopes = np.where(x > 0, 1 + 1.2 * np.abs(x) ** 0.2, -np.cos(x))
        slopes[x == 0] = 1 + off
        return (dy * slopes,)

    certificate = check(forward, backward, x, seed=seed)
    assert certificate.verdict == verdict, certificate


@SEEDS
def test_what_jumps_is_told_to_be_moved_and_not_to_compute_in_float64(seed: int) -> None:
    x = np.rint(drawn(seed, 4, 5))
    x[0] = [2, 2, 0, 1, -1]

    def forward(x: np.ndarray) -> tuple[np.ndarray, Any]:
        first = np.argmax(x, axis=1)[:, None] == np.arange(5)
        return np.where(first, np.sin(x) + np.arange(5), 0).sum(1), (x, first)

    def backward(dy: np.ndarray, cache: Any) -> tuple[np.ndarray]:
        x, first = cache
        return (dy[:, None] * first * np.cos(x),)

    certificate = check(forward, backward, x, seed=seed)
    assert certificate.verdict == "INCONCLUSIVE", certificate
    assert "move x off the jump" in certificate.arguments[0].note


def solved(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, Any]:
    y = np.linalg.solve(a, b)
    return y, (a, y)


def solved_back(dy: np.ndarray, cache: Any, factor: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    a, y = cache
    db = factor * np.linalg.solve(a.T, dy)
    return -np.outer(db, y), db


def ill_conditioned(seed: int, condition: float, size: int = 5) -> np.ndarray:
    left, right = (np.linalg.qr(drawn(seed + i, size, size))[0] for i in (1, 2))
    return np.asarray(left * np.geomspace(1, 1 / condition, size) @ right)


@SEEDS
@pytest.mark.parametrize(
    ("condition", "wrt", "structure"),
    [(1e7, (1,), "auto"), (1e9, (1,), "auto"), (1e9, None, "auto"), (1e11, None, "auto"), (1e9, (1,), "smooth")],
)
def test_what_an_ulp_of_any_array_does_is_not_called_wrong(
    condition: float, wrt: Any, structure: str, seed: int
) -> None:
    def verdict(factor: float) -> str:
        arrays = ill_conditioned(seed, condition), drawn(seed, 5)
        back = partial(solved_back, factor=factor)
        found = gradcheck(solved, back, arrays, structure=structure, wrt=wrt, seed=seed, raise_on_failure=False)
        return found.verdict

    assert verdict(1) != "FAIL"
    assert verdict(1.01) == "FAIL"


@SEEDS
def test_a_backward_that_gives_random_numbers_is_not_excused_as_one_that_an_ulp_moves(seed: int) -> None:
    generator = np.random.default_rng(seed)

    def backward(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        return (dy * np.cos(x) * (1 + 0.01 * generator.normal(size=x.shape)),)

    x = drawn(seed, 4, 5)
    assert check(lambda x: (np.sin(x), x), backward, x, seed=seed, structure="smooth").verdict == "FAIL"


@SEEDS
def test_a_backward_that_is_wrong_at_the_very_arrays_given_is_not_excused(seed: int) -> None:
    given = drawn(seed, 4, 5)

    def backward(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray]:
        return (dy * np.cos(x) * (1.1 if np.array_equal(x, given) else 1),)

    assert check(lambda x: (np.sin(x), x), backward, given, seed=seed, structure="smooth").verdict == "FAIL"


@SEEDS
def test_where_an_ulp_of_a_held_array_leaves_the_domain_it_excuses_nothing(seed: int) -> None:
    def forward(x: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        real(x)
        if p > 0.7:
            raise ValueError("p must be 0.7 at most")
        return p * np.sin(x), x

    def backward(dy: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return 0.71 * dy * np.cos(x), np.asarray((dy * np.sin(x)).sum())

    found = gradcheck(forward, backward, (drawn(seed, 5), np.array(0.7)), wrt=(0,), seed=seed, raise_on_failure=False)
    assert (found.verdict, found.arguments[0].note) == ("FAIL", "")


def kernel(size: int) -> np.ndarray:
    """That of a Gaussian process, at times in [0, 1]."""
    times = np.linspace(0, 1, size)
    return np.asarray(np.exp(-((times[:, None] - times) ** 2) / 0.08) + 1e-6 * np.eye(size))


@SEEDS
def test_what_a_closed_over_matrix_rounds_by_is_tolerated(seed: int) -> None:
    matrix = kernel(40)

    def certificate(off: float) -> Certificate:
        def backward(dy: np.ndarray, _: Any) -> tuple[np.ndarray]:
            dx = np.linalg.solve(matrix, dy)
            dx[np.argmax(np.abs(dx))] *= 1 + off
            return (dx,)

        return check(lambda x: (np.linalg.solve(matrix, x), None), backward, drawn(seed, 40), seed=seed)

    right = certificate(0)
    assert right.verdict == "PASS", right
    assert right.detection_floor is not None
    assert right.detection_floor < 1e-5
    assert certificate(right.detection_floor).verdict == "FAIL"


@SEEDS
@pytest.mark.parametrize("factor", [0, 1, 2, -1])
def test_what_is_all_rounding_in_float32_is_not_taken_for_constant(factor: int, seed: int) -> None:
    arrays = np.vander(np.linspace(0.1, 1, 8)).astype(np.float32), drawn(seed, 8).astype(np.float32)
    back = partial(solved_back, factor=factor)
    assert gradcheck(solved, back, arrays, wrt=(0,), seed=seed, raise_on_failure=False).verdict != "PASS"
