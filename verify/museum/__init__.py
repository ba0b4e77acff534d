"""Gradient bugs of real code, as mutations of this project's layers.

`python -m verify museum` and the tests must catch every exhibit.
"""

from verify.museum._exhibit import Exhibit
from verify.museum.linear import FLATTEN_NO_T
from verify.museum.pooling import MAXPOOL_ASSIGN

__all__ = ["EXHIBITS", "Exhibit"]

EXHIBITS = {exhibit.slug: exhibit for exhibit in (FLATTEN_NO_T, MAXPOOL_ASSIGN)}
