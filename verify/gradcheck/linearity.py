"""A second opinion on what passed: backward must be linear in dy.

A gradient of -dy/16 must be that of dy, times -1/16, to the last bit: a power of two goes through every product
and every sum without rounding. Where it does not, and the two differ by more than the check would have noticed,
one of them is wrong; since that of dy has passed, it is the other. So what treats small upstream gradients, or
those of one sign, in another way (a threshold, a quantisation) shows, and a backward that gives random numbers.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from verify.gradcheck.certificate import PASS
from verify.gradcheck.point import Findings, Point

_FACTOR = -1 / 16


def check_linear(findings: Findings, point: Point) -> None:
    """Add the opinion to each argument that passed at this point, or call it wrong."""
    subject = point.subject
    passed = [k for k in point.gradients if findings.results[k].verdict == PASS and point.gradients[k].size]
    if not passed:
        return
    dy = point.dy * point.dy.dtype.type(_FACTOR)
    _, cache = subject.value_and_cache(point.arrays)
    scaled = replace(point, dy=dy, gradients=subject.pull_back(point.arrays, dy, cache))
    for k in passed:
        gradient, result = point.gradients[k], findings.results[k]
        off = np.abs(scaled.gradients[k] / gradient.dtype.type(_FACTOR) - gradient)
        largest, floor = float(np.abs(gradient).max()) or 1.0, result.detection_floor or 0.0
        if not off.max() <= floor * largest:
            index = tuple(int(i) for i in np.unravel_index(int(np.nan_to_num(off, nan=np.inf).argmax()), off.shape))
            findings.fail(scaled, k, index, note="of -dy/16: backward is not linear in dy")
            continue
        how = f"up to {off.max() / largest:.1e} of its largest entry" if off.any() else "to the last bit"
        opinions = (*result.second_opinions, f"backward is linear in dy {how}")
        findings.results[k] = result._replace(second_opinions=opinions)
