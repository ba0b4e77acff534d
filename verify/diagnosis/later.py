"""What a certificate computes when somebody looks: gradients entry by entry, and curves of differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from verify.diagnosis.curve import Curve
from verify.diagnosis.gradients import Compared


class Look(NamedTuple):
    """By the names of arguments: their gradients, and their curves."""

    gradients: Mapping[str, Compared]
    curves: Mapping[str, Curve]


class Later:
    """Computes a `Look` at the first call. A copy that was pickled before that has nothing to show."""

    def __init__(
        self,
        compare: Callable[[], Mapping[str, Compared]] | None = None,
        draw: Callable[[], Mapping[str, Curve]] | None = None,
        found: Look | None = None,
    ) -> None:
        self._compare, self._draw, self._found = compare, draw, found

    def __call__(self) -> Look:
        if self._found is None:
            self._found = Look(_result(self._compare), _result(self._draw))
            self._compare = self._draw = None  # they hold the layer and its arrays
        return self._found

    def __reduce__(self) -> tuple[Any, ...]:
        return Later, (None, None, self._found)


def _result(compute: Callable[[], Mapping[str, Any]] | None) -> Mapping[str, Any]:
    """What a function returns; nothing where it raises, since a picture must not."""
    if compute is None:
        return {}
    try:
        with np.errstate(all="ignore"):
            return compute()
    except Exception:  # the layer has changed since, or a file that it reads is closed
        return {}
