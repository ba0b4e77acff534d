"""The checks of a layer at one case, one function each: CHECKS names them all.

What the layer does at the caller's own case counts in any event. Other arrays are made of that case, and a
forward may refuse them (raise, or give what is not finite): then the check does not apply. A check passes by
returning.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from verify.battery.contracts import CONTRACTS, Call
from verify.checker.arguments import is_floating, kinds
from verify.checker.certificate import (
    FAIL,
    INCONCLUSIVE,
    PASS,
    Certificate,
    CheckError,
    GradientMismatch,
    StructureError,
    Worst,
)
from verify.checker.check import gradcheck
from verify.checker.exact_numbers import signed
from verify.checker.layer import ContractError, ForwardRaised, LayerUnderTest

NOT_APPLICABLE = "NOT APPLICABLE"


class DoesNotApplyError(Exception):
    """A check that this layer, or this case, gives no occasion for; the message says why."""


class Found(NamedTuple):
    """What a check found at one case: a verdict, why, and the code of the cause of a FAIL."""

    verdict: str
    note: str = ""
    code: str = ""


class Trial(NamedTuple):
    """A layer at one case, and what its caller said of it."""

    forward: Callable[..., Any]
    backward: Callable[..., Any]
    arrays: tuple[Any, ...]
    options: Mapping[str, Any] | None
    structure: str
    batch: tuple[int, ...]
    seed: int

    def subject(self, arrays: tuple[Any, ...] | None = None) -> LayerUnderTest:
        """The layer at these arrays, or its own: called with care, its faults told in one sentence."""
        arrays = self.arrays if arrays is None else arrays
        return LayerUnderTest(self.forward, self.backward, arrays, self.options, None)

    def generator(self) -> np.random.Generator:
        """The same draws for the same seed."""
        return np.random.default_rng(self.seed)

    def gradcheck(self, arrays: tuple[Any, ...] | None = None, **keywords: Any) -> Certificate:
        """Check the gradients at these arrays, or its own; CheckError unless they pass."""
        arrays = self.arrays if arrays is None else arrays
        keywords = {"structure": self.structure, "seed": self.seed, **keywords}
        return gradcheck(self.forward, self.backward, arrays, self.options, **keywords)

    def check_at(self, arrays: tuple[Any, ...], what: str, look: Callable[[Any], None] = lambda y: None) -> Certificate:
        """Check the gradients at arrays that were made of its own, if the forward takes them; first look at its y."""
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
        """The same, of a multilinear layer at these very arrays, too: that oracle takes their shapes alone.

        Differences at the arrays convict only, and only of an entry with fewer than half its digits right: of
        entries of very unlike sizes they are known to less than they think. The rest has passed the exact check.
        """
        if self.check_at(arrays, what).structure == "multilinear":
            found = self.gradcheck(arrays, structure="smooth", raise_on_failure=False)
            if found.verdict == FAIL and not _agrees(found.worst, self.subject(arrays).dtype):
                raise GradientMismatch(found)

    def changed(self, change: Callable[[Any], Any]) -> tuple[Any, ...]:
        """Its arrays with a change made to those that have a gradient."""
        return tuple(change(array) if is_floating(array) else array for array in self.subject().arrays)

    def __str__(self) -> str:
        subject = self.subject()
        options = [f"{name}={value!r}" for name, value in subject.options.items()]
        return ", ".join([kinds(subject.names, subject.arrays), *options])


def _agrees(worst: Worst | None, dtype: Any) -> bool:
    """Whether the worst entry is what the differences say, to half the digits of the dtype."""
    if worst is None:
        return False
    scale = max(abs(worst.analytic), abs(worst.numeric))
    return abs(worst.analytic - worst.numeric) <= float(np.sqrt(np.finfo(dtype).eps)) * scale


def judge(check: str, trial: Trial) -> Found:
    """Run one check; TypeError or ValueError for a case that cannot be."""
    fault = trial.subject().fault()
    try:
        if fault is not None:
            raise fault
        CHECKS[check](trial)
    except DoesNotApplyError as reason:
        return Found(NOT_APPLICABLE, str(reason))
    except CheckError as error:
        found = error.certificate
        return Found(found.verdict, found.text(timed=False), found.causes[0].code if found.causes else "")
    except ContractError as error:
        return Found(FAIL, str(error), error.cause.code)
    except StructureError as error:
        return Found(INCONCLUSIVE, f"no {trial.structure} function here: {error}")
    return Found(PASS)


def all_gradients_together(trial: Trial) -> None:
    """Every gradient, as gradcheck checks them."""
    trial.gradcheck()


def each_gradient_alone(trial: Trial) -> None:
    """Every gradient with the other arrays held where they are."""
    positions = trial.subject().wrt
    if len(positions) == 1:
        raise DoesNotApplyError("there is one gradient")
    for position in positions:
        trial.gradcheck(wrt=[position])


def gradients_in_the_other_precision(trial: Trial) -> None:
    """Every gradient in float32 where the arrays are float64, and the other way round."""
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
    """Whether gradients in float32 are, to half its digits, those in float64, which another check holds to account.

    It acquits where float32 is too coarse for differences, and convicts nobody: of what is ill-conditioned
    fewer digits may be right.
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
    """Every gradient where entries tie: each is one of three that the array holds."""
    generator = trial.generator()

    def tied(array: Any) -> Any:
        few = generator.choice(array.ravel(), 3) if array.size else array
        return generator.choice(few, array.shape) if array.size else array

    trial.check_at_these(trial.changed(tied), "ties")


def gradients_at_zeros(trial: Trial) -> None:
    """Every gradient where about a third of the entries are zero, the first among them."""
    generator = trial.generator()

    def with_zeros(array: Any) -> Any:
        zero = generator.random(array.shape) < 1 / 3
        zero.flat[:1] = True
        return np.where(zero, array.dtype.type(0), array)

    trial.check_at_these(trial.changed(with_zeros), "zeros")


def gradients_of_an_empty_batch(trial: Trial) -> None:
    """Every gradient at N = 0, where the caller has said which arrays have a batch axis."""
    if not trial.batch:
        raise DoesNotApplyError("no array is said to have a batch axis")
    given = trial.subject().arrays
    if not all(k in range(len(given)) and np.ndim(given[k]) for k in trial.batch):
        raise ValueError(
            f"batch must hold positions in the {len(given)} arrays, of such as have axes, got {trial.batch!r}"
        )
    arrays = tuple(array[:0] if k in trial.batch else array for k, array in enumerate(given))
    fault = trial.subject(arrays).fault()
    if fault is not None:
        raise fault
    trial.gradcheck(arrays)


def _contract(name: str, trial: Trial) -> None:
    """A contract at this case, in the precisions that the layer takes."""
    subject = trial.subject()

    # What the layer raises is then told in one sentence, as elsewhere.
    @functools.wraps(trial.forward)
    def forward(*arrays: Any, **options: Any) -> Any:
        return subject.call("forward", arrays, *arrays, **options)

    def backward(dy: Any, cache: Any) -> Any:
        return subject.call("backward", subject.arrays, dy, cache)

    if hasattr(trial.forward, "argument_names"):  # of an adapter's, a method: not among what is wrapped
        forward.argument_names = trial.forward.argument_names  # type: ignore[attr-defined]
    generator = trial.generator()
    call = Call.of(forward, backward, subject.arrays, subject.options, generator)
    taken = [dtype for dtype in (np.float32, np.float64) if _takes(call, dtype)]
    CONTRACTS[name](call._replace(dtypes=taken), generator)


def _takes(call: Call, dtype: Any) -> bool:
    try:
        call.forward(*call.cast(dtype), **call.options)
    except ContractError:
        return False
    return True


CHECKS: dict[str, Callable[[Trial], None]] = {
    **{
        check.__name__.replace("_", "-"): check
        for check in (
            all_gradients_together,
            each_gradient_alone,
            gradients_in_the_other_precision,
            gradients_at_ties,
            gradients_at_zeros,
            gradients_of_an_empty_batch,
        )
    },
    **{name: functools.partial(_contract, name) for name in CONTRACTS},
}
