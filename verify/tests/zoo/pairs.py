# mypy: ignore-errors
"""Pairs of functions, out and cache = forward(x, w, b, settings), and dx, dw, db = backward(dout, cache)."""

from __future__ import annotations

import numpy as np

from zoo._row import Row, pair


def affine_forward(x, w, b):
    return x.reshape(x.shape[0], -1).dot(w) + b, (x, w, b)


def affine_backward(dout, cache):
    x, w, _ = cache
    return dout.dot(w.T).reshape(x.shape), x.reshape(x.shape[0], -1).T.dot(dout), np.sum(dout, axis=0)


def affine_backward_order(dout, cache):
    dx, dw, db = affine_backward(dout, cache)
    return dx, db, dw


def affine_backward_no_batch(dout, cache):
    dx, dw, _ = affine_backward(dout, cache)
    return dx, dw, dout[0]


def conv_forward(x, w, b, conv_param):
    stride, pad = conv_param["stride"], conv_param["pad"]
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    F, _, HH, WW = w.shape
    H_out, W_out = 1 + (padded.shape[2] - HH) // stride, 1 + (padded.shape[3] - WW) // stride
    out = np.zeros((len(x), F, H_out, W_out))
    for i in range(H_out):
        for j in range(W_out):
            window = padded[:, :, i * stride : i * stride + HH, j * stride : j * stride + WW]
            out[:, :, i, j] = np.tensordot(window, w, ([1, 2, 3], [1, 2, 3])) + b
    return out, (x, w, b, conv_param)


def conv_backward_with(dout, cache, stride, crop):
    x, w, _, conv_param = cache
    pad, (_, _, HH, WW) = conv_param["pad"], w.shape
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    dpadded, dw, db = np.zeros_like(padded), np.zeros_like(w), dout.sum(axis=(0, 2, 3))
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            place = np.s_[:, :, i * stride : i * stride + HH, j * stride : j * stride + WW]
            dpadded[place] += np.tensordot(dout[:, :, i, j], w, ([1], [0]))
            dw += np.tensordot(dout[:, :, i, j], padded[place], ([0], [0]))
    return dpadded[:, :, crop : crop + x.shape[2], crop : crop + x.shape[3]], dw, db


def conv_backward(dout, cache):
    return conv_backward_with(dout, cache, cache[3]["stride"], cache[3]["pad"])


def conv_backward_no_stride(dout, cache):
    return conv_backward_with(dout, cache, 1, cache[3]["pad"])


def conv_backward_no_crop(dout, cache):
    return conv_backward_with(dout, cache, cache[3]["stride"], 0)


def pool_forward(x, pool_param):
    HH, WW, S = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    N, C, H, W = x.shape
    out = np.zeros((N, C, 1 + (H - HH) // S, 1 + (W - WW) // S))
    for i in range(out.shape[2]):
        for j in range(out.shape[3]):
            out[:, :, i, j] = np.max(x[:, :, i * S : i * S + HH, j * S : j * S + WW], axis=(2, 3))
    return out, (x, pool_param)


def pool_backward_with(dout, cache, share):
    x, pool_param = cache
    HH, WW, S = pool_param["pool_height"], pool_param["pool_width"], pool_param["stride"]
    dx = np.zeros_like(x)
    for n, c, i, j in np.ndindex(dout.shape):
        window = x[n, c, i * S : i * S + HH, j * S : j * S + WW]
        share(dx[n, c, i * S : i * S + HH, j * S : j * S + WW], window, dout[n, c, i, j])
    return dx


def pool_backward(dout, cache):
    def first(dx, window, d):
        dx[np.unravel_index(window.argmax(), window.shape)] += d

    return pool_backward_with(dout, cache, first)


def pool_backward_all(dout, cache):
    def ties(dx, window, d):
        dx += d * (window == window.max())

    return pool_backward_with(dout, cache, ties)


def pool_backward_assigned(dout, cache):
    def last(dx, window, d):
        dx[np.unravel_index(window.argmax(), window.shape)] = d

    return pool_backward_with(dout, cache, last)


def dropout_forward(x, dropout_param):
    generator = np.random.default_rng(dropout_param["seed"])
    mask = (generator.random(x.shape) < dropout_param["p"]) / dropout_param["p"]
    return x * mask, (dropout_param, mask)


def dropout_backward(dout, cache):
    return dout * cache[1]


def dropout_backward_unscaled(dout, cache):
    return dout * (cache[1] > 0)


def statistics_forward(x, gamma, beta, bn_param):
    """Batch norm that keeps running averages in the dict it is given."""
    eps, momentum = bn_param.get("eps", 1e-3), bn_param.get("momentum", 0.9)
    mu, var = x.mean(axis=0), x.var(axis=0)
    bn_param["running_mean"] = momentum * bn_param.get("running_mean", 0 * mu) + (1 - momentum) * mu
    x_hat = (x - mu) / np.sqrt(var + eps)
    return gamma * x_hat + beta, (x_hat, gamma, np.sqrt(var + eps))


def statistics_backward(dout, cache):
    x_hat, gamma, std = cache
    d = dout * gamma
    dx = (d - d.mean(axis=0) - x_hat * (d * x_hat).mean(axis=0)) / std
    return dx, np.sum(dout * x_hat, axis=0), np.sum(dout, axis=0)


def statistics_backward_exchanged(dout, cache):
    dx, dgamma, dbeta = statistics_backward(dout, cache)
    return dx, dbeta, dgamma


def embedding_forward(x, W):
    return W[x], (x, W.shape)


def embedding_backward(dout, cache):
    x, shape = cache
    dW = np.zeros(shape, dout.dtype)
    np.add.at(dW, x, dout)
    return None, dW


def embedding_backward_buffered(dout, cache):
    x, shape = cache
    dW = np.zeros(shape, dout.dtype)
    dW[x] += dout
    return None, dW


SETTINGS = {"stride": 2, "pad": 1}
WINDOWS = {"pool_height": 2, "pool_width": 2, "stride": 1}
ROWS = [
    Row(
        "affine-pair",
        pair(affine_forward, affine_backward),
        {
            "dw and db exchanged": pair(affine_forward, affine_backward_order),
            "db of the first": pair(affine_forward, affine_backward_no_batch),
        },
        lambda draw: (draw(3, 2, 2), draw(4, 4), draw(4)),
    ),
    Row(
        "conv-pair",
        pair(conv_forward, conv_backward),
        {
            "no stride": pair(conv_forward, conv_backward_no_stride),
            "not cropped": pair(conv_forward, conv_backward_no_crop),
        },
        lambda draw: (draw(2, 2, 4, 5), draw(3, 2, 3, 2), draw(3), SETTINGS),
        single=False,
    ),
    Row(
        "max-pool-pair",
        pair(pool_forward, pool_backward),
        {"all ties": pair(pool_forward, pool_backward_all), "assigned": pair(pool_forward, pool_backward_assigned)},
        lambda draw: (draw.coarse(2, 2, 3, 4), WINDOWS),
        single=False,
    ),
    Row(
        "dropout-pair",
        pair(dropout_forward, dropout_backward),
        {"not scaled": pair(dropout_forward, dropout_backward_unscaled)},
        lambda draw: (draw(4, 4), {"p": 0.4, "seed": 3}),
        single=False,
    ),
    Row(
        "batch-norm-pair",
        pair(statistics_forward, statistics_backward),
        {"dgamma and dbeta exchanged": pair(statistics_forward, statistics_backward_exchanged)},
        lambda draw: (draw(4, 3), draw(3), draw(3), {"mode": "train"}),
    ),
    Row(
        "embedding-pair",
        pair(embedding_forward, embedding_backward),
        {"repeated indices added once": pair(embedding_forward, embedding_backward_buffered)},
        lambda draw: (np.append(draw.labels(4, 5), [1, 1]), draw(5, 3)),
    ),
]
