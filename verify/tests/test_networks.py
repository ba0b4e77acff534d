"""Whole networks: every gradient of every parameter and of x, in both versions, and training beside PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from networks import NETWORKS, Network

from verify import gradcheck

EACH = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
# Three steps of 0.1 in float64. Over five networks and ten seeds the largest difference was 8e-14 (measured). A
# gradient that is wrong by a millionth moves a parameter by more than this.
_APART = 1e-12


def gradients_of(network: Network, version: str, arrays: dict[str, Any]) -> dict[str, Any]:
    layer = network.build(version)
    y, cache = layer.forward(*arrays.values())
    floating = [name for name, array in arrays.items() if array.dtype.kind == "f"]
    found = layer.backward(np.ones_like(y), cache)
    return {"loss": y, **dict(zip(floating, found, strict=True))}


@EACH
@pytest.mark.parametrize("version", ["naive", "fast"])
def test_every_gradient_of_a_network_is_right(network: Network, version: str) -> None:
    arrays = network.arrays(0)
    certificate = gradcheck(*network.build(version)[1:], tuple(arrays.values()), seed=0)
    assert [result.verdict for result in certificate.arguments] == ["PASS"] * (1 + len(network.parameters))


@EACH
def test_one_entry_of_one_gradient_that_is_wrong_fails(network: Network) -> None:
    arrays, layer = network.arrays(0), network.build("fast")
    which = len(network.parameters) // 2

    def backward(dy: Any, cache: Any) -> Any:
        found: list[Any] = list(layer.backward(dy, cache))
        wrong = found[which].copy()
        wrong.flat[np.abs(wrong).argmax()] *= 1.001
        return *found[:which], wrong, *found[which + 1 :]

    certificate = gradcheck(layer.forward, backward, tuple(arrays.values()), seed=0, raise_on_failure=False)
    assert [result.verdict for result in certificate.arguments].count("FAIL") == 1
    assert certificate.arguments[which].verdict == "FAIL"


@EACH
def test_both_versions_agree(network: Network) -> None:
    naive, fast = (gradients_of(network, version, network.arrays(3)) for version in ("naive", "fast"))
    for name, value in naive.items():
        assert np.allclose(value, fast[name], rtol=0, atol=_APART * max(1, float(np.abs(value).max()))), name


@EACH
@pytest.mark.parametrize("seed", range(3))
def test_a_network_trains_as_in_pytorch(network: Network, seed: int) -> None:
    torch = pytest.importorskip("torch")
    arrays = network.arrays(seed)
    theirs = {name: torch.tensor(array) for name, array in arrays.items()}
    losses: list[tuple[float, float]] = []
    for _ in range(3):
        found = gradients_of(network, "fast", arrays)
        leaves = {name: each.requires_grad_() if each.is_floating_point() else each for name, each in theirs.items()}
        loss = network.in_torch(leaves)
        loss.backward()
        losses.append((float(found["loss"]), loss.item()))
        with torch.no_grad():
            theirs = {
                name: (each - 0.1 * each.grad if name in network.parameters else each.detach()).clone()
                for name, each in leaves.items()
            }
        arrays = {name: a - 0.1 * found[name] if name in network.parameters else a for name, a in arrays.items()}
    ours, right = zip(*losses, strict=True)
    assert ours == pytest.approx(right, rel=0, abs=_APART)
    assert len(set(ours)) == 3
    for name in network.parameters:
        assert np.abs(arrays[name] - theirs[name].numpy()).max() <= _APART, name
