"""The Sphinx extension of the handbook: formulas as MathML, derived pages, and a zip of what was built."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util import logging

from handbook.pages import write
from handbook.prose import blocks, rst

log = logging.getLogger(__name__)

# Maps of the theme's scripts to their sources, for its authors.
_NOT_SHIPPED = (".map", ".buildinfo", ".doctrees")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register what the handbook needs."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    app.connect("builder-inited", lambda app: write(Path(app.srcdir)))
    app.connect("autodoc-process-docstring", _docstring)
    app.connect("autodoc-skip-member", _without_docstring)
    app.connect("build-finished", _pack)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _docstring(app: Sphinx, what: str, name: str, obj: object, options: Any, lines: list[str]) -> None:
    """Turn a docstring, which is plain text, into reStructuredText."""
    lines[:] = rst(blocks("\n".join(lines)), formulas=False).splitlines()


def _without_docstring(app: Sphinx, what: str, name: str, obj: object, skip: bool, options: Any) -> bool | None:
    """Leave out fields whose docstrings are not their own: numbered ones, and defaults that are a type."""
    numbered = str(getattr(obj, "__doc__", "")).startswith("Alias for field number")
    return True if numbered or obj in (tuple, dict) else None


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _display(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="mathml">{convert(node.astext(), display="block")}</div>\n')
    raise nodes.SkipNode


def _pack(app: Sphinx, exception: Exception | None) -> None:
    """Write the built pages as one zip beside their folder, and say how large it is."""
    if exception is not None or app.builder.name != "html":
        return
    built = Path(app.outdir)
    target = built.with_suffix(".zip")
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for path in sorted(built.rglob("*")):
            if path.is_file() and not path.name.endswith(_NOT_SHIPPED) and ".doctrees" not in path.parts:
                archive.write(path, Path(built.name) / path.relative_to(built))
    log.info("%s: %.1f MB", target, target.stat().st_size / 1e6)
