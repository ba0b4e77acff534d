"""The declarations of all layers: `LAYERS["conv2d"]`. Every module here that defines a Layer is found."""

from __future__ import annotations

import importlib
import inspect
import pkgutil

from verify.layers._layer import BenchCase, Case, Configuration, Layer, Reject

__all__ = ["LAYERS", "BenchCase", "Case", "Configuration", "Layer", "Reject", "markdown_page", "markdown_table"]


def _declared() -> dict[str, Layer]:
    found = {}
    for info in pkgutil.iter_modules(__path__):
        if not info.name.startswith("_"):
            module = importlib.import_module(f"{__name__}.{info.name}")
            found.update({layer.name: layer for layer in vars(module).values() if isinstance(layer, Layer)})
    return dict(sorted(found.items()))


LAYERS = _declared()


_PAGE = """\
# Layers

`python -m verify layers` prints this page from the declarations in `verify/layers`.

Options mean what they mean in `torch.nn.functional`. Integer arrays and mixed dtypes are refused. No argument is
written to. Gradients are returned, never accumulated. `cnn_core.network.chain` and `cnn_core.graph.graph` make one
layer of several.

`python -m verify sweep LAYER --bound {bound}` goes through the configurations of a layer whose numbers are at most
{bound}: sizes, kernels, strides, dilations, paddings, groups. The docstring of `_scope` in the layer's declaration says
what they are. All versions must agree, bit for bit where nothing rounds, and each gradient must be right.

{table}
"""


# Within this bound counting the configurations of all layers takes a quarter of a second; within 4 it takes ten.
_COUNTED = 2


def markdown_page() -> str:
    """Return docs/layers.md."""
    return _PAGE.format(bound=_COUNTED, table=markdown_table())


def markdown_table() -> str:
    """Return the table of layers, in Markdown."""
    swept = f"configurations, bound {_COUNTED}"
    titles = ("layer", "versions", "arrays", "options", "structure", "compared with", swept, "source")
    rows = [titles, ("---",) * len(titles)]
    for layer in LAYERS.values():
        versions = ", ".join(implementation.name for implementation in layer.implementations)
        libraries = (("PyTorch", layer.torch), ("JAX", layer.jax), ("ONNX", layer.onnx))
        oracles = [name for name, has in libraries if has]
        options = ", ".join(
            name if default is inspect.Parameter.empty else f"{name}={default!r}"
            for name, default in layer.options.items()
        )
        words = (f"`{layer.name}`", versions, f"`{layer.arguments}`", f"`{options}`" if options else "")
        swept = f"{layer.configurations(_COUNTED):,}" if layer.scope else ""
        rows.append((*words, layer.structure, ", ".join(oracles) or "no library", swept, layer.source))
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
