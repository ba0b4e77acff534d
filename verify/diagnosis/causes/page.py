"""The page docs/causes.md: every code, with what to look for and what it is named by."""

from __future__ import annotations

from verify.diagnosis.causes.advice import LOOK_FOR
from verify.diagnosis.causes.codes import CauseCode

_PAGE = """# Causes

What a FAIL may be given as its cause: a guess, printed as one, likeliest first. What was seen, such as an
exception or another shape, is a fact, and stands in the first line. A cause is named only if what it
predicts equals what the backward claims: exactly where the oracle is exact, elsewhere to within rounding.
At least two wrong entries must speak for it. `true` is the gradient by differences. Where it is not
computed entry by entry, the equality is tested along random directions.

If a call that is made again gives another gradient, that is the cause, and no other is sought. A cause
that several arguments share is said once. Options of windows are found among the options of the forward,
in dicts that are options, and in the attributes of the layer.

A FAIL must not cost much more than a PASS. 64 entries of the true gradient are computed, and
64 forwards are spent on predictions. Of a function of each entry alone all entries are computed. Several
wrong gradients share these. Where differences are extrapolated, four forwards stand for each of these if
they agree with the extrapolation. Of a large layer they compute at most 2^24 entries of y for each argument, or 2^25.

This page is printed by `python -m verify.diagnosis.causes`, and a test compares.

{sections}
"""


def cause_sections() -> str:
    """All codes in Markdown: a heading for each, its meaning, what to look for, and what it is named by."""
    return "\n\n".join(
        f"## `{each.code}`\n\n{each.meaning}\n\n- **Look for:** {LOOK_FOR[each]}\n- **Named by:** {each.named_by}."
        for each in CauseCode
    )


def cause_page() -> str:
    """The page docs/causes.md."""
    return _PAGE.format(sections=cause_sections())
