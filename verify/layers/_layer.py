"""The declaration of a layer: everything about it except its arithmetic."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from hypothesis.strategies import SearchStrategy
from numpy.typing import NDArray

from cnn_core import Implementation

Array = NDArray[Any]
# Structures whose arithmetic is exact on integers.
EXACT = ("multilinear", "piecewise-linear")


class Case(NamedTuple):
    """One valid call of a layer: `forward(*arrays, **options)`."""

    arrays: tuple[Array | None, ...]
    options: dict[str, Any]


class Configuration(NamedTuple):
    """Sizes and options of a call. The shape of an array that is not given is None. A function draws its own array."""

    shapes: tuple[Any, ...]
    options: dict[str, Any]


class Reject(NamedTuple):
    """One invalid call: the exception it raises, and a regular expression that its message matches."""

    name: str
    arrays: tuple[Any, ...]
    options: dict[str, Any]
    error: type[Exception]
    message: str


class BenchCase(NamedTuple):
    """One size to time. `draw(generator, images)` makes the arrays of a batch, which has `images` when it is timed.

    `zoo` is its group in the report. `naive` is False if the loops would take minutes.
    """

    name: str
    zoo: str
    images: int
    draw: Callable[[np.random.Generator, int], tuple[Array, ...]]
    options: Mapping[str, Any] = {}
    naive: bool = False


@dataclass(frozen=True, repr=False)
class Layer:
    """The declaration of a layer. Tests, benchmarks, command line and tables are derived from it.

    - `arguments` names the arrays with their axes, "x: N C; w: ... -> y: ...".
    - `structure` is one of verify.gradcheck's. `cases` makes the strategy of valid cases.
    - `torch(torch, *tensors, **options)` and `jax(jax, *arrays, **options)` compute y there, from the module and a
      complete case: every array, or None, and every option. They return None for a case that the library does not have.
    - `onnx` names the operators of ONNX whose test cases the layer is compared with.
    - `tolerance(arrays, options, y, dy, gradients)` gives how far two right versions may differ: in y and in each
      gradient, as numbers or arrays. A layer that is exact on integers has none.
    - `constants` names the arrays that have no gradient: labels, masks, indices.
    - `scope(bound)` gives every configuration within a bound, in parts that a sweep shares out.
    - `plan(arrays, options)` names how the fast version goes about a call, if it has several ways.
    - `products(arrays, options, y)` counts the products of a forward. A layer that does not multiply by w has none.
    """

    name: str
    module: ModuleType
    arguments: str
    structure: str
    cases: Callable[[], SearchStrategy[Case]]
    rejects: tuple[Reject, ...]
    bench: tuple[BenchCase, ...]
    source: str
    torch: Callable[..., Any] | None = None
    jax: Callable[..., Any] | None = None
    onnx: tuple[str, ...] = ()
    tolerance: Callable[..., tuple[Any, ...]] | None = None
    products: Callable[..., int] | None = None
    constants: tuple[str, ...] = ()
    scope: Callable[[int], Sequence[Callable[[], Iterator[Configuration]]]] | None = None
    plan: Callable[[tuple[Any, ...], Mapping[str, Any]], str] | None = None

    def __repr__(self) -> str:
        return f"LAYERS[{self.name!r}]"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Print the short name. Otherwise Hypothesis prints all fields of the dataclass, which hide the fault."""
        printer.text(repr(self))

    @property
    def reference(self) -> Implementation:
        """The naive implementation."""
        implementation: Implementation = self.module.naive
        return implementation

    @property
    def fast(self) -> Implementation:
        """The version to use."""
        fast: Implementation = self.module.fast
        return fast

    @property
    def implementations(self) -> tuple[Implementation, ...]:
        """All versions, the reference first, the one to use last."""
        found = [each for each in vars(self.module).values() if isinstance(each, Implementation) and each != self.fast]
        return (*sorted(found, key=lambda each: each is not self.reference), self.fast)

    @property
    def exact(self) -> bool:
        """Whether its arithmetic is exact on integers."""
        return self.structure in EXACT

    def allowed(self, case: Case, y: Array, dy: Array, gradients: tuple[Array | None, ...]) -> tuple[Any, ...]:
        """How far two right versions may differ in y and in each gradient: not at all where arithmetic is exact."""
        if self.exact:
            return (0.0,) * (1 + len(gradients))
        if self.tolerance is None:
            raise TypeError(f"the declaration of {self.name} needs a tolerance: its arithmetic rounds")
        return self.tolerance(case.arrays, case.options, y, dy, gradients)

    def configurations(self, bound: int) -> int:
        """Return how many configurations a sweep within the bound goes through."""
        return sum(1 for part in (self.scope(bound) if self.scope else ()) for _ in part())

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the arrays, in order: ("x", "w", "b")."""
        return tuple(self.axes)

    @property
    def axes(self) -> dict[str, str]:
        """The axes of each array by its name: {"x": "N C H W", ...}."""
        inputs, _, _ = self.arguments.partition("->")
        pairs = (part.partition(":") for part in inputs.split(";"))
        return {name.strip(): axes.strip() for name, _, axes in pairs}

    @property
    def differentiable(self) -> tuple[int, ...]:
        """The positions of the arrays that have a gradient."""
        return self.with_gradient(len(self.names))

    def with_gradient(self, count: int) -> tuple[int, ...]:
        """The positions of the arrays that have a gradient, of `count` arrays. The last name may be of several."""
        names = (*self.names, *(self.names[-1:] * (count - len(self.names))))
        return tuple(k for k, name in enumerate(names[:count]) if name not in self.constants)

    @property
    def options(self) -> dict[str, Any]:
        """The default of each option by its name. That of an option that must be given is `inspect.Parameter.empty`."""
        parameters = inspect.signature(self.reference.forward).parameters.values()
        return {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}

    def complete(self, arrays: tuple[Array | None, ...], options: Mapping[str, Any]) -> Case:
        """Return a call with None for each array that is not given, and with the default of each option."""
        parameters = inspect.signature(self.reference.forward).parameters.values()
        named = sum(each.kind is each.POSITIONAL_OR_KEYWORD for each in parameters)
        missing = (None,) * (named - len(arrays))
        return Case((*arrays, *missing), {**self.options, **options})
