"""How to fix what each check of the battery finds."""

from __future__ import annotations

FIX: dict[str, str] = {
    "all-gradients-together": (
        "The message names the argument, its worst entry and a likely cause. Look the cause up. "
        "Run the lines that reproduce the entry."
    ),
    "each-gradient-alone": (
        "Check that array alone: `gradcheck(forward, backward, arrays, wrt=[k])`. With the others fixed, it may be "
        "linear. An exact oracle then sees errors that are too small for another."
    ),
    "gradients-in-the-other-precision": (
        "Look for arrays and constants with a dtype of their own: `np.zeros(shape)`, `astype(np.float32)`. An epsilon "
        "may vanish in float32."
    ),
    "gradients-at-ties": (
        "Keep the winner of forward in the cache. To find it again by `x == y` rewards every entry that is tied."
    ),
    "gradients-at-zeros": (
        "Use one comparison, `>` or `>=`, in forward and in backward. Guard quotients, logarithms and roots at 0."
    ),
    "gradients-of-an-empty-batch": (
        "Return zeros of the right shape. An empty sum is 0, an empty mean is NaN, and an empty maximum raises."
    ),
    "arguments-are-left-alone": "Replace in-place operations (`x -=`, `dy *=`, `out=x`) by new arrays, or copy first.",
    "gradients-alias-nothing": "Return a copy where a gradient is dy or a view: `dy.T`, `dy.reshape(...)`, a slice.",
    "any-layout-of-dy-serves": (
        "Read dy by its indices, not by its memory. Where memory is read, take `np.ascontiguousarray(dy)` first."
    ),
    "any-layout-of-the-arrays-serves": (
        "Read the arrays by their indices, or take `np.ascontiguousarray` of each first, and so of those in the cache."
    ),
    "a-second-backward-gives-the-same": (
        "Return new gradients, and add nothing to old ones. Copy a cached array before it is changed in place."
    ),
    "another-forward-disturbs-nothing": (
        "Keep what backward needs in the cache that forward returns, not in the layer, a global or a shared buffer."
    ),
    "the-same-call-gives-the-same-result": (
        "Draw nothing inside. Take the mask, or a seed, as an argument. Sums of several threads need a fixed order."
    ),
    "backward-is-linear-in-dy": (
        "Clip, round or normalise gradients in the optimizer, not in backward. No term of backward may lack dy."
    ),
    "dtypes-and-shapes-are-kept": (
        "Make buffers by `np.zeros_like`. Sum a gradient over the axes along which its array was broadcast."
    ),
}
