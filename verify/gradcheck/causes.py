"""Why a gradient is wrong, as far as it can be told."""

from __future__ import annotations

import math

from verify.gradcheck.certificate import Cause
from verify.gradcheck.point import Findings


def find_causes(findings: Findings) -> list[Cause]:
    """The causes of what failed, likeliest first; "unknown" where nothing fits."""
    causes = []
    for result in findings.results.values():
        if result.worst is not None:
            finite = math.isfinite(result.worst.analytic)
            text = "the gradient disagrees with the differences" if finite else "the gradient is not finite"
            causes.append(Cause("unknown" if finite else "not-finite", result.name, f"d{result.name}: {text}"))
    return causes
