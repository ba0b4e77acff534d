# mypy: ignore-errors
"""Layers of images, as classes: channel-last, grouped, transposed, enlarged."""

from __future__ import annotations

import numpy as np

from zoo._row import Row


class ConvLast:
    """(N, H, W, C), in loops; the stride in a dict of settings."""

    def __init__(self, draw):
        self.W, self.b = draw(2, 3, 2, 3), draw(1, 1, 1, 3)
        self.hparameters = {"stride": 2}

    def forward(self, A_prev):
        s, (kh, kw, _, F) = self.hparameters["stride"], self.W.shape
        N, H, W, _ = A_prev.shape
        Z = np.empty((N, (H - kh) // s + 1, (W - kw) // s + 1, F), np.result_type(A_prev, self.W))
        for h in range(Z.shape[1]):
            for w in range(Z.shape[2]):
                window = A_prev[:, h * s : h * s + kh, w * s : w * s + kw]
                Z[:, h, w] = np.tensordot(window, self.W, 3) + self.b[0, 0, 0]
        self.cache = A_prev
        return Z

    def backward(self, dZ):
        s, (kh, kw, _, _) = self.step(), self.W.shape
        dA, self.dW = np.zeros_like(self.cache), np.zeros_like(self.W)
        for h in range(dZ.shape[1]):
            for w in range(dZ.shape[2]):
                place = np.s_[:, h * s : h * s + kh, w * s : w * s + kw]
                self.put(dA, place, np.tensordot(dZ[:, h, w], self.W, ([1], [3])))
                self.dW += np.tensordot(self.cache[place], dZ[:, h, w], ([0], [0]))
        self.db = dZ.sum(axis=(0, 1, 2), keepdims=True)
        return dA

    def step(self):
        return self.hparameters["stride"]

    def put(self, dA, place, part):
        dA[place] += part


class ConvLastNoStride(ConvLast):
    def step(self):
        return 1


class ConvLastAssigned(ConvLast):
    def put(self, dA, place, part):
        dA[place] = part


class ConvLastBiasOfImages(ConvLast):
    def backward(self, dZ):
        dA = super().backward(dZ)
        self.db = dZ[:1].sum(axis=(0, 1, 2), keepdims=True)
        return dA


class Transposed:
    """A transposed convolution over time, (N, C, T)."""

    def __init__(self, draw):
        self.weight, self.stride = draw(2, 3, 3), 2

    def forward(self, x):
        self.x = x
        K = self.weight.shape[2]
        y = np.zeros((len(x), self.weight.shape[1], (x.shape[2] - 1) * self.stride + K), np.result_type(x, self.weight))
        for t in range(x.shape[2]):
            y[:, :, t * self.stride : t * self.stride + K] += np.einsum("nc,cfk->nfk", x[:, :, t], self.weight)
        return y

    def backward(self, grad_output):
        K = self.weight.shape[2]
        grad_input, self.grad_weight = np.zeros_like(self.x), np.zeros_like(self.weight)
        for t in range(self.x.shape[2]):
            part = grad_output[:, :, t * self.stride : t * self.stride + K]
            grad_input[:, :, t] = np.einsum("nfk,cfk->nc", part, self.kernel())
            self.grad_weight += np.einsum("nc,nfk->cfk", self.x[:, :, t], part)
        return grad_input

    def kernel(self):
        return self.weight


class TransposedTurned(Transposed):
    def kernel(self):
        return self.weight[:, :, ::-1]


class GroupNorm:
    def __init__(self, draw):
        self.G, self.eps, self.gamma, self.beta = 2, 1e-5, draw(1, 4, 1, 1), draw(1, 4, 1, 1)

    def forward(self, x):
        N, C, H, W = x.shape
        grouped = x.reshape(N, self.G, C // self.G, H, W)
        mean, var = grouped.mean(axis=(2, 3, 4), keepdims=True), grouped.var(axis=(2, 3, 4), keepdims=True)
        self.inverse = 1 / np.sqrt(var + self.eps)
        self.x_norm = ((grouped - mean) * self.inverse).reshape(x.shape)
        return self.x_norm * self.gamma + self.beta

    def backward(self, dout):
        N, C, H, W = dout.shape
        self.dgamma = np.sum(dout * self.x_norm, axis=(0, 2, 3), keepdims=True)
        self.dbeta = np.sum(dout, axis=(0, 2, 3), keepdims=True)
        shape, axes = (N, self.G, C // self.G, H, W), self.axes()
        d, xn = (dout * self.gamma).reshape(shape), self.x_norm.reshape(shape)
        mean = d.mean(axis=axes, keepdims=True)
        return ((d - mean - xn * (d * xn).mean(axis=axes, keepdims=True)) * self.inverse).reshape(dout.shape)

    def axes(self):
        return 2, 3, 4


class GroupNormOneGroup(GroupNorm):
    def axes(self):
        return 1, 2, 3, 4


class GroupNormWidthOnly(GroupNorm):
    def backward(self, dout):
        dx = super().backward(dout)
        self.dbeta = np.sum(dout, axis=(0, 3), keepdims=True)[:, :, :1]
        return dx


class Depthwise:
    """A filter for each channel, padding 1 at the left and 2 at the right."""

    def __init__(self, draw):
        self.w, self.pad = draw(3, 4), (1, 2)

    def forward(self, x):
        self.padded = np.pad(x, ((0, 0), (0, 0), self.pad))
        windows = np.lib.stride_tricks.sliding_window_view(self.padded, 4, axis=2)
        return np.einsum("nctk,ck->nct", windows, self.w)

    def backward(self, dy):
        windows = np.lib.stride_tricks.sliding_window_view(self.padded, 4, axis=2)
        self.dw = np.einsum("nctk,nct->ck", windows, dy)
        dx = np.zeros_like(self.padded)
        for k in range(4):
            dx[:, :, k : k + dy.shape[2]] += dy * self.w[:, k, None]
        return self.cropped(dx)

    def cropped(self, dx):
        return dx[:, :, self.pad[0] : dx.shape[2] - self.pad[1]]


class DepthwiseOtherEnd(Depthwise):
    def cropped(self, dx):
        return dx[:, :, self.pad[1] : dx.shape[2] - self.pad[0]]


ROWS = [
    Row(
        "conv-channels-last",
        ConvLast,
        {"no stride": ConvLastNoStride, "assigned": ConvLastAssigned, "db of one image": ConvLastBiasOfImages},
        lambda draw: (draw(2, 4, 5, 2),),
    ),
    Row("conv-transposed", Transposed, {"the kernel turned": TransposedTurned}, lambda draw: (draw(2, 2, 3),)),
    Row(
        "group-norm",
        GroupNorm,
        {"one group": GroupNormOneGroup, "dbeta of one row": GroupNormWidthOnly},
        lambda draw: (draw(2, 4, 2, 3),),
    ),
    Row("depthwise", Depthwise, {"cropped at the other end": DepthwiseOtherEnd}, lambda draw: (draw(2, 3, 5),)),
]
