# mypy: ignore-errors
"""Layers with several inputs or several results: recurrent cells, attention, splits, the best of several."""

from __future__ import annotations

import numpy as np

from zoo._row import Row


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class LSTM:
    """Returns (h, c), and takes (dh, dc)."""

    def __init__(self, draw):
        self.Wx, self.Wh, self.b = draw(3, 8), draw(2, 8), draw(8)

    def forward(self, x, h_prev, c_prev):
        a = x @ self.Wx + h_prev @ self.Wh + self.b
        i, f, o, g = np.split(a, 4, axis=1)
        i, f, o, g = sigmoid(i), sigmoid(f), sigmoid(o), np.tanh(g)
        c = f * c_prev + i * g
        h = o * np.tanh(c)
        self.cache = (x, h_prev, c_prev, i, f, o, g, c)
        return h, c

    def backward(self, dh, dc):
        x, h_prev, c_prev, i, f, o, g, c = self.cache
        t = np.tanh(c)
        dc = self.of_cell(dh, dc, o, t)
        di, df, do, dg = dc * g, dc * c_prev, dh * t, dc * i
        da = np.hstack([di * i * (1 - i), df * f * (1 - f), do * o * (1 - o), dg * self.of_tanh(g)])
        self.dWx, self.dWh, self.db = x.T @ da, h_prev.T @ da, da.sum(axis=0)
        return da @ self.Wx.T, da @ self.Wh.T, dc * f

    def of_cell(self, dh, dc, o, t):
        return dc + dh * o * (1 - t**2)

    def of_tanh(self, g):
        return 1 - g**2


class LSTMNoCell(LSTM):
    def of_cell(self, dh, dc, o, t):
        return dh * o * (1 - t**2)


class LSTMSigmoidForTanh(LSTM):
    def of_tanh(self, g):
        return g * (1 - g)


class GRU:
    """Returns h; parameters in one dict, gradients in another under the same names."""

    def __init__(self, draw):
        self.params = {name: draw(3, 2) for name in ("Wz", "Wr", "Wn")}
        self.params.update({name: draw(2, 2) for name in ("Uz", "Ur", "Un")})
        self.grads = {}

    def forward(self, x, h):
        p = self.params
        z, r = sigmoid(x @ p["Wz"] + h @ p["Uz"]), sigmoid(x @ p["Wr"] + h @ p["Ur"])
        n = np.tanh(x @ p["Wn"] + (r * h) @ p["Un"])
        self.saved = (x, h, z, r, n)
        return (1 - z) * n + z * h

    def backward(self, dy):
        p, (x, h, z, r, n) = self.params, self.saved
        dn = dy * (1 - z) * (1 - n**2)
        drh = dn @ p["Un"].T
        dz, dr = dy * (h - n) * z * (1 - z), drh * h * r * (1 - r)
        self.grads = {"Wz": x.T @ dz, "Wr": x.T @ dr, "Wn": x.T @ dn}
        self.grads |= {"Uz": h.T @ dz, "Ur": h.T @ dr, "Un": self.reset(r, h).T @ dn}
        dx = dz @ p["Wz"].T + dr @ p["Wr"].T + dn @ p["Wn"].T
        return dx, dy * z + drh * r + dz @ p["Uz"].T + dr @ p["Ur"].T

    def reset(self, r, h):
        return r * h


class GRUNoReset(GRU):
    def reset(self, r, h):
        return h


class Attention:
    """One head, with its four matrices in a dict."""

    def __init__(self, draw):
        self.weights = {name: draw(4, 4) for name in ("Q", "K", "V", "O")}
        self.gradients = {}

    def forward(self, x):
        q, k, v = (x @ self.weights[name] for name in "QKV")
        s = q @ k.transpose(0, 2, 1) / np.sqrt(q.shape[-1]).astype(x.dtype)
        e = np.exp(s - s.max(axis=-1, keepdims=True))
        a = e / e.sum(axis=-1, keepdims=True)
        self.cache = (x, q, k, v, a)
        return (a @ v) @ self.weights["O"]

    def backward(self, dy):
        x, q, k, v, a = self.cache
        dav = dy @ self.weights["O"].T
        self.gradients["O"] = np.einsum("nti,ntj->ij", a @ v, dy)
        da = dav @ v.transpose(0, 2, 1)
        ds = self.of_softmax(da, a) / self.root(q.shape[-1])
        dq, dk, dv = ds @ k, ds.transpose(0, 2, 1) @ q, a.transpose(0, 2, 1) @ dav
        for name, d in zip("QKV", (dq, dk, dv), strict=True):
            self.gradients[name] = np.einsum("nti,ntj->ij", x, d)
        return sum(d @ self.weights[name].T for name, d in zip("QKV", (dq, dk, dv), strict=True))

    def of_softmax(self, da, a):
        return a * (da - (da * a).sum(axis=-1, keepdims=True))

    def root(self, size):
        return float(np.sqrt(size))


class AttentionDiagonal(Attention):
    def of_softmax(self, da, a):
        return da * a * (1 - a)


class AttentionUnscaled(Attention):
    def root(self, size):
        return 1


class AttentionQueriesAxis(Attention):
    def of_softmax(self, da, a):
        return a * (da - (da * a).sum(axis=-2, keepdims=True))


ROWS = [
    Row(
        "lstm-cell",
        LSTM,
        {"dc forgotten": LSTMNoCell, "the slope of a sigmoid": LSTMSigmoidForTanh},
        lambda draw: (draw(2, 3), draw(2, 2), draw(2, 2)),
    ),
    Row("gru-cell", GRU, {"dUn without the reset gate": GRUNoReset}, lambda draw: (draw(4, 3), draw(4, 2))),
    Row(
        "attention",
        Attention,
        {
            "the diagonal of softmax": AttentionDiagonal,
            "not divided by the root": AttentionUnscaled,
            "summed over queries": AttentionQueriesAxis,
        },
        lambda draw: (draw(2, 3, 4),),
    ),
]
