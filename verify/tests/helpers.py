"""What many tests call: a check that returns what it found, whatever the verdict is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from verify import Certificate, gradcheck

Found = TypeVar("Found")


def result_of(check: Callable[..., Found], *arguments: Any, **settings: Any) -> Found:
    """Return the result of a check that would raise if the layer failed."""
    return check(*arguments, raise_on_failure=False, **settings)


def certificate_of(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    arrays: Sequence[Any],
    options: Mapping[str, Any] | None = None,
    **settings: Any,
) -> Certificate:
    """Return the certificate of gradcheck, be it a PASS or not."""
    return result_of(gradcheck, forward, backward, arrays, options, **settings)
