"""Bugs of linear layers and reshapes."""

from __future__ import annotations

from verify.checker.point import Array
from verify.diagnosis.causes import CauseCode as C
from verify.museum._exhibit import Call, Gradients, gradient


@gradient(
    "flatten-noT",
    "flatten",
    wrong="the gradient, (features, N), is reshaped to the images' shape without a transpose: it mixes images",
    shows="N > 1",
    source="Simple CNN using NumPy, parts V and VI (Adhok, Analytics Vidhya)",
    code=C.FEATURES_BATCH_SWAPPED,
)
def _flatten_no_t(dy: Array, call: Call) -> Gradients:
    return call.instead(dy, dx=lambda dx: dy.T.reshape(dx.shape))
