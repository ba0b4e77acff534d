"""The checks of the corpus, by name. Each run makes a new layer, because some layers keep state."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.calibrate.mutants import MUTANTS
from benchmarks.calibrate.sabotage import SABOTAGE
from benchmarks.calibrate.tied import TIED
from benchmarks.calibrate.zoo import ZOO, Known
from benchmarks.corpus.cases import Case, cases, covered
from verify.layers import LAYERS
from verify.museum import EXHIBITS, GRADIENT

Array = NDArray[Any]
Pair = tuple[Callable[..., Any], Callable[..., Any]]
# An error of a twentieth. Every PASS excludes an error of a thousandth, so it excludes this one.
_OFF = 1.05

# A choice: the number of cases of each exhibit.
_OF_EXHIBIT = 4


class Check(NamedTuple):
    """One call of gradcheck: its name, the function that makes (forward, backward), and the other arguments."""

    name: str
    make: Callable[[], Pair]
    case: Case
    structure: str
    seed: int


def checks() -> list[Check]:
    """Return all checks, in a fixed order."""
    return [*_right_layers(), *_mutants(), *_exhibits(), *_known_functions(), *_spoilt(), *_tied(), *_bad_layers()]


def _seed(name: str) -> int:
    """Return a seed that depends only on the name of the check, so that a new check changes no other."""
    return zlib.crc32(name.encode())


def _check(name: str, make: Callable[[], Pair], case: Case, structure: str) -> Check:
    return Check(name, make, case, structure, _seed(name))


def _right_layers() -> Iterator[Check]:
    for layer in map(LAYERS.__getitem__, covered()):
        for version in layer.implementations:
            for number, case in enumerate(cases(layer.name)):
                for structure in (layer.structure, "auto", "smooth"):
                    name = f"right: {layer.name}, {version.name}, case {number}, {structure}"
                    yield _check(name, lambda v=version: (v.forward, v.backward), case, structure)  # type: ignore[misc]


def _mutants() -> Iterator[Check]:
    """Yield every mutant of the calibration at six cases with entries, with and without its structure."""
    for mutant in (each for each in MUTANTS if each.layer in covered()):
        layer = LAYERS[mutant.layer]
        whole = [case for case in cases(layer.name) if case.arrays[0].size]
        chosen = np.random.default_rng(_seed(mutant.name)).permutation(len(whole))[:6]
        for turn, number in enumerate(chosen.tolist()):
            version = layer.implementations[turn % 2]
            structure = layer.structure if turn % 3 else "auto"
            name = f"mutant: {mutant.name}, {version.name}, case {number}, {structure}"

            def make(mutant: Any = mutant, version: Any = version) -> Pair:
                wrong = mutant.mutate(version)
                return wrong.forward, wrong.backward

            yield _check(name, make, whole[number], structure)


def _exhibits() -> Iterator[Check]:
    """Yield every wrong backward of the museum in all versions, at the first cases."""
    for _, exhibit in sorted(EXHIBITS.items()):
        layer = LAYERS[exhibit.layer]
        if exhibit.kind != GRADIENT or layer.name not in covered():
            continue
        for version in layer.implementations:
            wrong = exhibit.mutate(version)
            for number, case in enumerate(cases(layer.name)[:_OF_EXHIBIT]):
                name = f"museum: {exhibit.slug}, {version.name}, case {number}"
                yield _check(name, lambda w=wrong: (w.forward, w.backward), case, layer.structure)  # type: ignore[misc]


def _known_functions() -> Iterator[Check]:
    """Yield functions with known derivatives: with the right gradient, a larger one, and one entry too large."""
    wrongs: dict[str, Callable[[Array], Array]] = {
        "right": lambda dx: dx,
        "too large": lambda dx: _OFF * dx,
        "one entry too large": lambda dx: dx * np.where(np.arange(dx.size) == dx.size // 2, _OFF, 1),
    }
    for known, structure, wrong in itertools.product(ZOO, ("smooth", "auto"), wrongs):
        name = f"known: {known.name}, {wrong}, {structure}"
        x = known.draw(np.random.default_rng(_seed(name)))
        yield _check(name, lambda k=known, w=wrongs[wrong]: _pair(k.f, k, w), Case((x,), {}), structure)  # type: ignore[misc]


def _spoilt() -> Iterator[Check]:
    """Yield right and doubled gradients of each spoilt forward: with noise, in float32, step-blind, overflowing."""
    factors = {"right": 1.0, "doubled": 2.0}
    for kind, known, wrong in itertools.product(SABOTAGE, ZOO, factors):
        name = f"spoilt: {known.name}, {kind}, {wrong}"
        seed = _seed(name)
        x = known.draw(np.random.default_rng(seed))

        def make(kind: str = kind, known: Known = known, seed: int = seed, x: Array = x, wrong: str = wrong) -> Pair:
            forward = SABOTAGE[kind](known.f, np.random.default_rng(seed))
            forward(x)  # the first arrays determine the grid or the domain of some
            return _pair(forward, known, lambda dx: factors[wrong] * dx)

        yield _check(name, make, Case((x,), {}), ("smooth", "auto")[seed % 2])


def _pair(f: Callable[[Array], Array], known: Known, wrong: Callable[[Array], Array]) -> Pair:
    return lambda x: (f(x), x.copy()), lambda dy, x: (np.asarray(wrong(np.asarray(known.vjp(x, dy)))),)


def _tied() -> Iterator[Check]:
    """Yield functions with many kinks at arrays of -1, 0 and 1.

    The gradient is right, tripled, or has its first entry off by 2.
    """
    # A tripled gradient of zeros is right, so such draws PASS.
    wrongs: dict[str, Callable[[Array], Array]] = {
        "right": lambda dx: dx,
        "tripled": lambda dx: 3 * dx,
        "first entry off": lambda dx: dx + 2 * (np.arange(dx.size).reshape(dx.shape) == 0).astype(dx.dtype),
    }
    for function, wrong, turn in itertools.product(TIED, wrongs, range(5)):
        name = f"tied: {function}, {wrong}, draw {turn}"
        generator = np.random.default_rng(_seed(name))
        shape = generator.integers(1, 4), generator.integers(3, 5)
        x = generator.integers(-1, 2, shape).astype((np.float64, np.float32)[turn % 2])

        def make(function: str = function, wrong: str = wrong) -> Pair:
            forward, backward = TIED[function]
            return forward, lambda dy, cache: tuple(wrongs[wrong](dx) for dx in backward(dy, cache))

        yield _check(name, make, Case((x,), {}), "auto")


def _bad_layers() -> Iterator[Check]:
    """Yield layers that break the convention by what they return, raise or write to."""
    arrays = np.array([[1.0, -2.0, 3.0], [0.5, 2.0, -1.0]]), np.array([[2.0], [1.0], [-3.0]])
    structures = ("auto", "multilinear", "piecewise-linear", "piecewise-multilinear", "analytic", "smooth")
    for (fault, make), structure in itertools.product(_FAULTS.items(), structures):
        case = Case(tuple(array.copy() for array in arrays), {})
        yield _check(f"bad layer: {fault}, {structure}", make, case, structure)


def _forward(x: Array, w: Array) -> Any:
    return x @ w, (x, w)


def _backward(dy: Array, cache: Any) -> Any:
    x, w = cache
    return dy @ w.T, x.T @ dy


def _answers(change: Callable[[Array, Array], Any]) -> Callable[[], Pair]:
    return lambda: (_forward, lambda dy, cache: change(*_backward(dy, cache)))


def _raises(*_: Any) -> Any:
    raise KeyError("weights")


def _writes_to_x(x: Array, w: Array) -> Any:
    x *= 2
    return x @ w, (x, w)


def _writes_to_dy(dy: Array, cache: Any) -> Any:
    dy *= 2
    return _backward(dy, cache)


def _random_forward() -> Pair:
    generator = np.random.default_rng(0)
    return lambda x, w: (x @ w + 0.1 * generator.normal(size=(len(x), 1)), (x, w)), _backward


def _random_backward() -> Pair:
    generator = np.random.default_rng(0)
    return _forward, lambda dy, cache: tuple(g * generator.uniform(0.5, 1.5, g.shape) for g in _backward(dy, cache))


_FAULTS: dict[str, Callable[[], Pair]] = {
    "too few gradients": _answers(lambda dx, dw: (dx,)),
    "too many gradients": _answers(lambda dx, dw: (dx, dw, dw)),
    "no tuple": _answers(lambda dx, dw: dx),
    "None returned": _answers(lambda dx, dw: None),
    "None for one": _answers(lambda dx, dw: (dx, None)),
    "list for one": _answers(lambda dx, dw: (dx.tolist(), dw)),
    "wrong shape": _answers(lambda dx, dw: (dx, dw[:, 0])),
    "float32": _answers(lambda dx, dw: (dx.astype(np.float32), dw)),
    "whole numbers": _answers(lambda dx, dw: (dx.astype(np.int64), dw)),
    "NaN in one entry": _answers(lambda dx, dw: (dx, np.where(np.arange(3)[:, None] == 1, np.nan, dw))),
    "backward raises": lambda: (_forward, _raises),
    "forward raises": lambda: (_raises, _backward),
    "forward returns y alone": lambda: (lambda x, w: x @ w, _backward),
    "forward writes to x": lambda: (_writes_to_x, _backward),
    "backward writes to dy": lambda: (_forward, _writes_to_dy),
    "random forward": _random_forward,
    "random backward": _random_backward,
}
