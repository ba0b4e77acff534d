"""The checks of a layer at one case, one function for each. CHECKS has them all by name.

A check that returns has passed. An error at the caller's own case always counts. Some checks make other arrays from
that case. If the forward raises there, or y is not finite, the check does not apply.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from verify.adapters import Forward, Pair, check_bound, framework_of
from verify.battery.contracts import CONTRACTS, Call
from verify.checker.arguments import layer_under_test
from verify.checker.certificate import FAIL, INCONCLUSIVE, PASS, Certificate, CheckError, GradientMismatch
from verify.checker.check import gradcheck
from verify.checker.directions import signed
from verify.checker.layer import ContractError, ForwardRaised, LayerUnderTest, NoResult, is_floating, kinds
from verify.checker.point import StructureError, Worst
from verify.diagnosis.reproduction import arrays_not_at_hand

NOT_APPLICABLE = "NOT APPLICABLE"
LEFT_ALONE, KEPT = "arguments-are-left-alone", "dtypes-and-shapes-are-kept"
EMPTY = "gradients-of-an-empty-batch"
# The code of an INCONCLUSIVE whose gradients are right, but not all are checked.
UNCOVERED = "uncovered"
# Faults of one gradient: the layer can be called all the same.
_OF_ONE_GRADIENT = ("no-gradient", "wrong-shape", "wrong-dtype")


class DoesNotApplyError(Exception):
    """The check does not apply to this layer or this case. The message has the reason."""


class Found(NamedTuple):
    """The finding of a check at one case: verdict, reason, codes of the causes, arguments with wrong gradients."""

    verdict: str
    note: str = ""
    codes: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()

    @property
    def code(self) -> str:
        """The code of the likeliest cause."""
        return self.codes[0] if self.codes else ""

    @classmethod
    def of(cls, found: Certificate) -> Found:
        """Return the finding of a certificate."""
        codes = tuple(cause.code for cause in found.causes)
        names = tuple(each.name for each in found.arguments if each.verdict == found.verdict)
        if found.verdict == INCONCLUSIVE and not names:  # every gradient is right, and not all are covered
            codes, names = (UNCOVERED,), tuple(each.name for each in found.uncovered if each.matters)
        return cls(found.verdict, found.text(timed=False), codes, names)


class Trial(NamedTuple):
    """A layer at one case, with the caller's settings."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    arrays: tuple[Any, ...]
    options: Mapping[str, Any] | None
    structure: str
    batch: tuple[int, ...]
    seed: int
    wrt: tuple[int, ...] | None = None
    miss_probability: float = 1e-9

    def subject(self, arrays: tuple[Any, ...] | None = None) -> LayerUnderTest:
        """Return the layer at these arrays or at its own. Its faults become a ContractError of one sentence."""
        arrays = self.arrays if arrays is None else arrays
        return layer_under_test(self.forward, self.backward, arrays, self.options, self.wrt)

    def check_batch(self) -> tuple[Any, ...]:
        """Return the arrays. Raises ValueError unless the positions in `batch` are of arrays with axes."""
        given = self.subject().arrays
        if not all(k in range(len(given)) and np.ndim(given[k]) for k in self.batch):
            text = f"among {len(given)} arrays, got {self.batch!r}"
            raise ValueError(f"batch must have positions of arrays with axes, {text}")
        return given

    def generator(self) -> np.random.Generator:
        """Return a generator with the seed of this trial."""
        return np.random.default_rng(self.seed)

    def gradcheck(self, arrays: tuple[Any, ...] | None = None, **keywords: Any) -> Certificate:
        """Check the gradients at these arrays or at its own, and raise CheckError unless they pass."""
        own = {"structure": self.structure, "seed": self.seed, "wrt": self.wrt}
        keywords = {**own, "miss_probability": self.miss_probability, **keywords}
        with contextlib.nullcontext() if arrays is None else arrays_not_at_hand():
            arrays = self.arrays if arrays is None else arrays
            if isinstance(self.forward, Forward):  # which knows of results to be checked alone
                return check_bound(Pair(self.forward, self.backward), arrays, self.options, **keywords)
            return gradcheck(self.forward, self.backward, arrays, self.options, **keywords)

    def check_at(self, arrays: tuple[Any, ...], what: str, look: Callable[[Any], None] = lambda y: None) -> Certificate:
        """Check the gradients at arrays made from its own, if the forward accepts them. `look` sees y first."""
        subject = self.subject(arrays)
        with np.errstate(all="ignore"):
            try:
                y = subject.value(subject.arrays)
            except ForwardRaised as fault:
                raise DoesNotApplyError(f"the layer refuses {what}: {fault.__cause__}") from fault
        look(y)
        if not np.isfinite(y).all():
            raise DoesNotApplyError(f"y is not finite at {what}")
        return self.gradcheck(arrays)

    def check_at_these(self, arrays: tuple[Any, ...], what: str) -> None:
        """Check the gradients as `check_at` does, and for a multilinear layer also by differences at these arrays.

        The multilinear oracle only uses the shapes of the arrays. The differences can fail an entry, and only one with
        fewer than half its digits right. For entries of very different sizes, differences underestimate their own
        error. All entries have already passed the exact check.
        """
        if self.check_at(arrays, what).structure == "multilinear":
            found = self.gradcheck(arrays, structure="smooth", raise_on_failure=False)
            if found.verdict == FAIL and not _agrees(found.worst, self.subject(arrays).dtype):
                raise GradientMismatch(found)

    def changed(self, change: Callable[[Any], Any]) -> tuple[Any, ...]:
        """Return its arrays, with `change` applied to those that have a gradient."""
        return tuple(change(array) if is_floating(array) else array for array in self.subject().arrays)

    def changed_where_checked(self, change: Callable[[Any], Any]) -> tuple[Any, ...]:
        """Return its arrays, with `change` applied to those that are checked: targets, say, keep their meaning."""
        subject = self.subject()
        return tuple(change(array) if k in subject.wrt else array for k, array in enumerate(subject.arrays))

    def shielded(self) -> Trial:
        """Return this trial of a layer that gets copies, so that what it writes to its arguments is not noticed."""
        forward, backward = _shielded(Pair(self.forward, self.backward))
        return self._replace(forward=forward, backward=backward)

    def __str__(self) -> str:
        subject = self.subject()
        options = [f"{name}={value!r}" for name, value in subject.options.items()]
        return ", ".join([kinds(subject.names, subject.arrays), *options])


def _shielded(pair: Pair) -> Pair:
    """Return the pair of a layer that gets copies, and of an adapter's each result alone as well."""

    def call(*arrays: Any, **options: Any) -> Any:
        return pair.forward(*map(_copy, arrays), **options)

    def backward(dy: Any, cache: Any) -> Any:
        return pair.backward(_copy(dy), cache)

    if not isinstance(pair.forward, Forward):
        return Pair(functools.wraps(pair.forward)(call), backward)
    alone = [lambda make=make: _shielded(make()) for make in pair.forward.alone]
    return Pair(replace(pair.forward, call=call, alone=alone), backward)


def _copy(array: Any) -> Any:
    return array.copy(order="K") if isinstance(array, np.ndarray) else array


def _agrees(worst: Worst | None, dtype: Any) -> bool:
    """Return whether the worst entry agrees with the differences to half the digits of the dtype."""
    if worst is None:
        return False
    scale = max(abs(worst.analytic), abs(worst.numeric))
    return abs(worst.analytic - worst.numeric) <= float(np.sqrt(np.finfo(dtype).eps)) * scale


def judge(check: str, trial: Trial) -> Found:
    """Run one check and return its finding. Raises TypeError or ValueError for an invalid case.

    A layer that writes to its arguments fails the check that says so. The other checks then give it copies.
    """
    found = _judged(check, trial)
    if found.verdict == FAIL and check != LEFT_ALONE and _judged(LEFT_ALONE, trial).code == "input-overwritten":
        return _judged(check, trial.shielded())
    return found


def _judged(check: str, trial: Trial) -> Found:
    fault = trial.subject().fault()
    try:
        if fault is not None and _concerns(fault, check):
            raise fault
        try:
            CHECKS[check](trial)
        except (CheckError, ContractError, DoesNotApplyError, StructureError):
            raise
        except Exception:
            if fault is None:
                raise
            raise fault from None  # its gradient is no array, say
        if fault is not None and fault.code == "input-overwritten":
            raise fault
    except DoesNotApplyError as reason:
        return Found(NOT_APPLICABLE, str(reason))
    except CheckError as error:
        return Found.of(error.certificate)
    except ContractError as error:
        return Found(FAIL, str(error), (error.code,), () if error.argument is None else (error.argument,))
    except StructureError as error:
        return Found(INCONCLUSIVE, f"no {trial.structure} function here: {error}")
    return Found(PASS)


def _concerns(fault: ContractError, check: str) -> bool:
    """Return whether a fault at the caller's own arrays is for this check to report.

    If the gradient of an argument has another shape, the checks of gradients say so. If the layer cannot be called, no
    check can be made.
    """
    if fault.code == "input-overwritten":
        return check != LEFT_ALONE  # which names the argument itself
    if fault.code in _OF_ONE_GRADIENT:
        return check == KEPT or (check in GRADIENT_CHECKS and check != EMPTY)  # which asks at an empty batch
    return True


def all_gradients_together(trial: Trial) -> None:
    """Every gradient, as gradcheck checks them."""
    trial.gradcheck()


def each_gradient_alone(trial: Trial) -> None:
    """Every gradient, with the other arrays fixed."""
    positions = trial.subject().wrt
    if len(positions) == 1:
        raise DoesNotApplyError("there is one gradient")
    for position in positions:
        trial.gradcheck(wrt=[position])


def gradients_in_the_other_precision(trial: Trial) -> None:
    """Every gradient in float32 if the arrays are float64, and in float64 otherwise."""
    other = np.dtype(np.float32 if trial.subject().dtype == np.float64 else np.float64)

    def keeps(y: Any) -> None:
        if y.dtype != other:
            raise DoesNotApplyError(f"the layer computes in {y.dtype} for arrays of {other}")

    try:
        trial.check_at(trial.changed(lambda array: array.astype(other)), f"arrays of {other}", keeps)
    except CheckError as error:
        undecided = other == np.float32 and error.certificate.verdict == INCONCLUSIVE
        if not (undecided and _float32_is_as_float64(trial)):
            raise


def _float32_is_as_float64(trial: Trial) -> bool:
    """Return whether gradients in float32 agree with those in float64 to half the digits of float32.

    Another check covers the gradients in float64. This agreement replaces an inconclusive check where float32 is
    too coarse for differences. A disagreement is not a failure, because fewer digits may be right in an
    ill-conditioned layer.
    """
    gradients = []
    for dtype in (np.float32, np.float64):
        rounded = trial.changed(lambda array: array.astype(np.float32))
        subject = trial.subject(tuple(a.astype(dtype) if is_floating(a) else a for a in rounded))
        y, cache = subject.value_and_cache(subject.arrays)
        dy = signed(trial.generator(), y.shape).astype(np.float32).astype(y.dtype)
        gradients.append(subject.pull_back(subject.arrays, dy, cache))
    tolerance = float(np.sqrt(np.finfo(np.float32).eps))
    coarse, fine = gradients
    return all(np.abs(coarse[k] - fine[k]).max(initial=0) <= tolerance * np.abs(fine[k]).max(initial=0) for k in fine)


def gradients_at_ties(trial: Trial) -> None:
    """Every gradient at ties: each entry is one of three entries of the array."""
    generator = trial.generator()

    def tied(array: Any) -> Any:
        few = generator.choice(array.ravel(), 3) if array.size else array
        return generator.choice(few, array.shape) if array.size else array

    trial.check_at_these(trial.changed_where_checked(tied), "ties")


def gradients_at_zeros(trial: Trial) -> None:
    """Every gradient at zeros: the first entry and about a third of the others are zero."""
    generator = trial.generator()

    def with_zeros(array: Any) -> Any:
        zero = generator.random(array.shape) < 1 / 3
        zero.flat[:1] = True
        return np.where(zero, array.dtype.type(0), array)

    trial.check_at_these(trial.changed_where_checked(with_zeros), "zeros")


def gradients_of_an_empty_batch(trial: Trial) -> None:
    """Every gradient at N = 0, if the caller named the arrays with a batch axis."""
    if not trial.batch:
        raise DoesNotApplyError("no array is said to have a batch axis")
    given = trial.check_batch()
    arrays = tuple(array[:0] if k in trial.batch else array for k, array in enumerate(given))
    fault = trial.subject(arrays).fault()
    if fault is not None:
        raise fault
    trial.gradcheck(arrays)


def _contract(name: str, trial: Trial) -> None:
    """Check a contract at this case, in the precisions that the layer accepts."""
    subject = trial.subject()

    # These wrappers turn an exception of the layer into a ContractError of one sentence.
    @functools.wraps(trial.forward)
    def forward(*arrays: Any, **options: Any) -> Any:
        return _called(trial.forward, "forward", kinds(subject.names, arrays), *arrays, **options)

    def backward(dy: Any, cache: Any) -> Any:
        return _called(trial.backward, "backward", kinds(subject.names, subject.arrays), dy, cache)

    if hasattr(trial.forward, "argument_names"):  # an adapter's method, which wraps does not copy
        forward.argument_names = trial.forward.argument_names  # type: ignore[attr-defined]
    generator = trial.generator()
    call = Call.of(forward, backward, subject.arrays, subject.options, generator)
    dtypes = [subject.dtype] if _keeps_arrays(trial.forward) else [np.float32, np.float64]
    taken = [dtype for dtype in dtypes if _takes(call, dtype)]
    CONTRACTS[name](call._replace(dtypes=taken), generator)


def _keeps_arrays(forward: Any) -> bool:
    """Return whether a layer in NumPy has arrays that no caller sets: they keep their dtype, and so may y."""
    return isinstance(forward, Forward) and framework_of(forward.layer) is None and bool(forward.uncovered())


def _called(function: Callable[..., Any], who: str, where: str, *arguments: Any, **options: Any) -> Any:
    try:
        return function(*arguments, **options)
    except ContractError:  # an adapter knows better what went wrong
        raise
    except Exception as error:
        text = f"{who} raised {type(error).__name__}: {error} at arrays {where}"
        raise NoResult("raised", None, None, text) from error


def _takes(call: Call, dtype: Any) -> bool:
    try:
        call.forward(*call.cast(dtype), **call.options)
    except ContractError:
        return False
    return True


_OF_GRADIENTS: dict[str, Callable[[Trial], None]] = {
    check.__name__.replace("_", "-"): check
    for check in (
        all_gradients_together,
        each_gradient_alone,
        gradients_in_the_other_precision,
        gradients_at_ties,
        gradients_at_zeros,
        gradients_of_an_empty_batch,
    )
}
GRADIENT_CHECKS = tuple(_OF_GRADIENTS)
CHECKS: dict[str, Callable[[Trial], None]] = {
    **_OF_GRADIENTS,
    **{name: functools.partial(_contract, name) for name in CONTRACTS},
}
