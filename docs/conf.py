"""The handbook's settings for Sphinx. `tox -e docs` builds it; `docs/handbook` makes the pages that are derived."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # handbook

from verify.command.output import version as _version  # noqa: E402  (the path comes first)

project = "gradcert"
copyright = "gradcert contributors"
release = version = _version()

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_design", "handbook.extension"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["handbook", "layers.md", "**/README.md"]  # layers.md is what the README links: here is layers/index
default_role = "literal"  # a docstring's `x` is code
smartquotes = False  # --option is no dash
nitpicky = True

myst_enable_extensions = ["attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
myst_dmath_allow_digits = False  # "$5 and $6" is no formula
myst_dmath_allow_space = False

autodoc_typehints = "none"  # docstrings say what an argument is, and with types a signature takes ten lines
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_mock_imports = ["torch", "jax"]  # their adapters have docstrings, and these are all that is needed

templates_path = ["_templates"]
html_theme = "pydata_sphinx_theme"
html_title = "gradcert"
html_static_path = ["_static"]
html_css_files = ["handbook.css"]
html_math_renderer = "mathml"
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {
    "logo": {"text": "gradcert"},
    "navbar_end": ["theme-switcher"],
    "header_links_before_dropdown": 7,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_center": [],
    "footer_end": [],
    "show_prev_next": True,
    "show_toc_level": 2,
    "back_to_top_button": False,
}
html_sidebars = {"index": [], "faq": [], "glossary": []}
