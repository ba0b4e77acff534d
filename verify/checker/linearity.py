"""A second opinion on what passed: backward must be linear in dy.

A gradient of -dy/2^20 must be that of dy, times -1/2^20, to the last bit, and so must that of -dy * 2^20: a power
of two goes through every product and every sum without rounding. Where it does not, and the two differ by more
than the check would have noticed, one of them is wrong; since that of dy has passed, it is the other. So what
treats small or large upstream gradients, or those of one sign, in another way (a threshold, a clip, a
quantisation) shows, and a backward that gives random numbers. One that halves what is large until it is small, and
squares as often (PyTorch's of a matrix exponential), loses a bit each time, and is convicted of no more than that.
"""

from __future__ import annotations

import numpy as np

from verify.checker.certificate import PASS
from verify.checker.exact_numbers import small_bits
from verify.checker.layer import NoResult
from verify.checker.point import Findings, Point

_MOST_BITS = 20
# So many roundings of the largest dy, made larger: 1,200 matrix exponentials lost 15 at most. In float32 that would be
# all there is, so no more than a millionth.
_ROUNDINGS, _MOST_LOST = 64, 2.0**-20


def check_linear(findings: Findings, point: Point) -> None:
    """Add the opinion to each argument that passed at this point, or call it wrong."""
    passed = [k for k in point.gradients if findings.results[k].verdict == PASS and point.gradients[k].size]
    if not passed:
        return
    bits = min(_MOST_BITS, small_bits(point.dy.dtype))
    off = dict.fromkeys(passed, 0.0)
    for power, size in ((-bits, f"/2^{bits}"), (bits, f" * 2^{bits}")):
        for k, error in _check_scaled(findings, point, passed, -(2.0**power), size).items():
            off[k] = max(off[k], error)
    for k in passed:
        result = findings.results[k]
        if result.verdict == PASS:
            how = f"up to {off[k]:.1e} of its largest entry" if off[k] else "to the last bit"
            opinions = (*result.second_opinions, f"backward is linear in dy {how}")
            findings.results[k] = result._replace(second_opinions=opinions)


def _check_scaled(findings: Findings, point: Point, passed: list[int], factor: float, size: str) -> dict[int, float]:
    """How far the gradients of dy times the factor are off, relative to the largest entry; what is wrong fails."""
    found: dict[int, float] = {}
    large = abs(factor) > 1
    lost = _ROUNDINGS * float(np.finfo(point.dy.dtype).eps) * abs(factor) * float(np.abs(point.dy).max(initial=0.0))
    try:
        with np.errstate(over="ignore" if large else None, invalid="ignore" if large else None):
            scaled = point.scaled(factor)
    except NoResult:
        if large:  # it may refuse that
            return found
        raise
    for k in passed:
        gradient, result = point.gradients[k], findings.results[k]
        if large and not np.isfinite(scaled.gradients[k]).all():
            continue  # what overflows is no opinion
        off = np.abs(scaled.gradients[k] / gradient.dtype.type(factor) - gradient)
        largest, floor = float(np.abs(gradient).max()) or 1.0, result.detection_floor or 0.0
        found[k] = float(off.max()) / largest
        if large:
            floor = max(floor, min(lost, _MOST_LOST))
        if result.verdict == PASS and not off.max() <= floor * largest:
            index = tuple(int(i) for i in np.unravel_index(int(np.nan_to_num(off, nan=np.inf).argmax()), off.shape))
            findings.fail(scaled, k, index, note=f"of -dy{size}: backward is not linear in dy")
    return found
