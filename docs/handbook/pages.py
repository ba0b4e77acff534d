"""All pages that the handbook derives, as text by their path."""

from __future__ import annotations

from pathlib import Path

from handbook import reference
from handbook.layer_page import index_page, layer_page, read_ratios
from verify.layers import LAYERS


def pages(docs: Path) -> dict[str, str]:
    """Return the text of each page by its path in `docs`."""
    ratios = read_ratios(docs)
    return {
        "layers/index.rst": index_page(),
        **{f"layers/{layer.name}.rst": layer_page(layer, ratios) for layer in LAYERS.values()},
        **{f"reference/{name}.rst": text for name, text in reference.pages().items()},
    }


def write(docs: Path) -> None:
    """Write the pages whose text has changed, and remove those of layers that are no more."""
    found = pages(docs)
    for folder in ("layers", "reference"):
        (docs / folder).mkdir(exist_ok=True)
        for path in (docs / folder).glob("*.rst"):
            if path.relative_to(docs).as_posix() not in found:
                path.unlink()
    for name, text in found.items():
        path = docs / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
