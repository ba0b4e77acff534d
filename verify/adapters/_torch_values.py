"""Arrays as tensors, tensors as arrays, and the tensors that are refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from verify.checker.point import Array


def tensor_of(array: Array, device: Any, *, differentiated: bool = True) -> Any:
    """Return a copy as a tensor, in the layout of the array if PyTorch supports it."""
    tensor = torch.from_numpy(np.array(array, order="K")).to(device)
    return tensor.requires_grad_(differentiated and is_floating(tensor))


def array_of(tensor: Any, name: str = "") -> Array:
    """Return a copy as an array. TypeError for a tensor that is sparse, nested, quantized or bfloat16."""
    refuse_layout(tensor, name)
    if tensor.dtype == torch.bfloat16:
        raise TypeError("NumPy has no bfloat16: check the layer in float32 or float64")
    return np.array(tensor.numpy(force=True))


def refuse_layout(tensor: Any, name: str) -> None:
    """Raise TypeError, which says what to check instead, unless the tensor holds one number an entry."""
    who = name or "a tensor"
    if tensor.is_nested:
        raise TypeError(f"{who} is a nested tensor: pass its tensors as a list")
    if tensor.layout != torch.strided:
        text = "check a function of its values, which makes the sparse tensor inside and returns values"
        raise TypeError(f"{who} is sparse ({tensor.layout}): {text} (docs/recipes/sparse.md)")
    if tensor.is_quantized:
        raise TypeError(f"{who} is quantized, which has no gradient: pass its dequantized values")
    if tensor.is_meta:
        raise TypeError(f"{who} is on the device meta and holds no numbers: pass a tensor with values")


def refuse_complex(name: str) -> TypeError:
    """Return the error for a complex tensor whose gradient is asked."""
    text = "check a function of its real and imaginary parts, such as lambda re, im: layer(torch.complex(re, im))"
    return TypeError(f"{name} is complex, and gradients are checked at real arrays: {text}")


def write_back(array: Array, tensor: Any) -> None:
    """Copy the tensor to the array if it differs."""
    now = tensor.numpy(force=True)
    if not np.array_equal(now, array, equal_nan=now.dtype.kind in "fc"):
        array[...] = now


def is_floating(value: Any) -> bool:
    """Whether it is a tensor of floating or complex numbers."""
    return isinstance(value, torch.Tensor) and bool(value.is_floating_point() or value.is_complex())
