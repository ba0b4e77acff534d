"""`verify.gradcheck`: the checker's, with a sentence for a call that does not fit it, and a record of each result.

Such a call was written for another checker, say, or for an adapter.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Collection, Mapping
from typing import Any, ParamSpec, TypeVar

from verify.checker import check
from verify.checker.arguments import shown
from verify.checker.certificate import CheckError
from verify.records import record

_P = ParamSpec("_P")
_Returned = TypeVar("_Returned")

_TOLERANCES = "leave it out: steps and tolerances follow from the arithmetic"
_STATE = "it is for a layer that keeps arrays in itself: verify.adapters.gradcheck(layer, inputs, NAME=...)"
SECOND = "check the layer (x, dy) -> dx, as docs/recipes/second_order.md shows"

# Keywords of other checkers and of adapters -> what to write instead.
_INSTEAD = {
    **dict.fromkeys(("eps", "epsilon", "h", "delta", "step", "atol", "rtol", "tol", "tolerance"), _TOLERANCES),
    **dict.fromkeys(
        ("nondet_tol", "fast_mode", "check_undefined_grad", "check_batched_grad", "check_grad_dtypes"), "leave it out"
    ),
    **dict.fromkeys(
        ("check_forward_ad", "check_backward_ad", "check_batched_forward_grad", "modes"),
        "backward is checked, and nothing else: leave it out",
    ),
    "masked": "of a sparse tensor, check a function of its values",
    **dict.fromkeys(("parameters", "fixed", "reset", "backward_options"), _STATE),
    **dict.fromkeys(("create_graph", "order", "second_order", "gradgrad"), f"for second derivatives {SECOND}"),
    "nondiff_argnums": "it is for a function in JAX: verify.adapters.jax.gradcheck(function, inputs, ...)",
    "raise_exception": "write raise_on_failure=VALUE",
    "inputs": "write gradcheck(forward, backward, arrays, options), or verify.adapters.gradcheck(layer, inputs)",
    "argnums": "write wrt=VALUE: positions of arrays",
    "random_state": "write seed=VALUE",
    "rng": "write seed=0: a whole number",
}


def _explained(function: Callable[_P, _Returned]) -> Callable[_P, _Returned]:
    """Return the function with a sentence for a call that does not fit it. Every result is recorded."""
    signature = inspect.signature(function)

    @functools.wraps(function)
    def called(*arguments: _P.args, **keywords: _P.kwargs) -> _Returned:
        __tracebackhide__ = True  # pytest's tracebacks end where the caller calls
        try:
            signature.bind(*arguments, **keywords)
        except TypeError as error:
            raise TypeError(_refusal(arguments, keywords, signature, error)) from None
        try:
            result = function(*arguments, **keywords)
        except CheckError as error:
            record(arguments[0] if arguments else keywords["forward"], error.certificate)
            raise
        record(arguments[0] if arguments else keywords["forward"], result)
        return result

    return called


def refuse_unknown(who: str, keywords: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise TypeError for a keyword that is none of those known, and say what to write instead."""
    unknown = _unknown(who, keywords, known)
    if unknown:
        raise TypeError(unknown)


def _unknown(who: str, keywords: Mapping[str, Any], known: Collection[str]) -> str:
    """Return the sentence about the first keyword that is not known, or nothing."""
    for name, value in keywords.items():
        if name not in known:
            instead = _INSTEAD.get(name, f"the options of forward are one dict, {{{name!r}: ...}}")
            return f"{who} takes no {name}: " + instead.replace("NAME", name).replace("VALUE", shown(value))
    return ""


def _refusal(
    arguments: tuple[Any, ...], keywords: Mapping[str, Any], signature: inspect.Signature, error: TypeError
) -> str:
    unknown = _unknown("gradcheck", keywords, tuple(signature.parameters))
    if unknown:
        return unknown
    if len(arguments) == 1 or (len(arguments) == 2 and not callable(arguments[1])):
        given = " and ".join(map(shown, arguments))
        text = "for a layer that is one object write verify.adapters.gradcheck(layer, inputs)"
        return f"gradcheck needs forward, backward and arrays, got {given}: {text}"
    return f"gradcheck(forward, backward, arrays, options): {error}"


gradcheck = _explained(check.gradcheck)
gradcheck.__module__ = "verify"  # where pickle finds it
