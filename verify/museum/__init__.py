"""Gradient bugs that real code had, re-expressed as mutations of this project's own layers.

Every exhibit must be caught: by `python -m verify museum`, and by the tests.
"""

from verify.museum._exhibit import Exhibit
from verify.museum.linear import FLATTEN_NO_T
from verify.museum.pooling import MAXPOOL_ASSIGN

__all__ = ["EXHIBITS", "Exhibit"]

EXHIBITS = {exhibit.slug: exhibit for exhibit in (FLATTEN_NO_T, MAXPOOL_ASSIGN)}
