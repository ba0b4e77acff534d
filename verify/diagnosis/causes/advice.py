"""What to look for in a backward whose FAIL names a cause."""

from __future__ import annotations

from verify.diagnosis.causes.codes import CauseCode as C

LOOK_FOR: dict[C, str] = {
    C.ZERO: "An array of zeros that is returned and never written, a mask that is all False, or a `detach`.",
    C.SIGN: "A loss of y - target in forward and of target - y in backward; the minus of the update.",
    C.BATCH_REDUCTION: "The division by N, which belongs in one place: `/ N`, `mean(axis=0)`, `sum(axis=0)`.",
    C.CONSTANT_FACTOR: (
        "The 2 of a square, a mean where a sum is meant, a learning rate inside backward, or a term added twice."
    ),
    C.UPSTREAM_COPIED: "A backward that returns dy and leaves out the derivative of the layer.",
    C.UPSTREAM_IGNORED: "A backward that returns the derivative alone. Multiply by dy. A dy of ones hides this.",
    C.UPSTREAM_BROADCAST: "`dy[0]`, `dy.flat[0]` or `dy.mean()` for dy; an index without its loop variable.",
    C.MASK_OF_UPSTREAM: "`dy[dy < 0] = 0`. The mask is that of x: `dy * (x > 0)`.",
    C.DY_LAYOUT: "A reshape of dy where a transpose is meant; code that ignores the strides of dy.",
    C.STRIDE_IGNORED: "Loops of backward that step by 1. dy belongs at `i * stride`.",
    C.DILATION_IGNORED: "`i + p` in backward where forward reads `i + p * dilation`.",
    C.GROUPS_IGNORED: "A convolution in backward without groups; a channel index without that of the group.",
    C.GROUPS_PERMUTED: "A reshape to (C / groups, groups) where (groups, C / groups) is meant.",
    C.PADDING_CROPPED: (
        "The slice that takes the padding off: top and bottom may differ, as may left and right. "
        'An odd total of "same" has its larger half behind.'
    ),
    C.WINNER_IN_PADDING: "An argmax over the padded plane. Subtract the padding from the row and from the column.",
    C.KERNEL_NOT_FLIPPED: (
        "The gradient of a correlation by its input takes the kernel mirrored in both axes, or the index i - p."
    ),
    C.TRANSPOSED: "`x.T @ dy` against `dy.T @ x`, a missing `.T`. Square matrices hide it: take unequal sizes.",
    C.FEATURES_BATCH_SWAPPED: "A reshape of (features, N) to (N, features), which mixes the entries. Use a transpose.",
    C.HEIGHT_WIDTH: "H for W, kH for kW, or `stride[0]` for `stride[1]`. Square images and kernels hide it.",
    C.SYMMETRISED: "Which triangle forward reads. If it reads one, the gradient of the other is 0.",
    C.FLIPPED: "A `[::-1]`, a `flip` or a `rot90` too many, or of the wrong array.",
    C.PERMUTED: "An index array that sorts or shuffles. Backward needs its inverse: `np.argsort(order)`.",
    C.SHIFTED: "A loop that begins at 1, a slice that ends one early, a padding that is counted twice.",
    C.ONE_IMAGE_ONLY: "A `return` in the loop over images, `dy[0]`, or `=` in that loop where `+=` is meant.",
    C.ONE_POSITION_ONLY: "A `return` or `break` in a loop over positions, `[-1]`, or a sum that was left out.",
    C.REMAINDER_LOST: "Sizes that the stride does not divide: `H // stride * stride`, a loop to the last window.",
    C.OVERLAP_ASSIGNED: (
        "`dx[...] =` where windows overlap: write `+=`. Of repeated indices `dx[index] +=` keeps one: use `np.add.at`."
    ),
    C.NOT_REDUCED: "The axes of the sum: all along which the array was broadcast, and no other.",
    C.DIAGONAL_ONLY: "A layer whose entries depend on each other, differentiated entry by entry. The sum is missing.",
    C.AT_OUTPUT: "A cache that holds y where the formula is in x; an array that forward overwrote in place.",
    C.AT_INPUT: "A formula in y, such as y * (1 - y), that is given x.",
    C.STATISTICS_CONSTANT: "The terms of the mean and the variance: dx = r (dh - mean(dh) - h mean(dh h)).",
    C.SMALL_CONSTANT: "An epsilon, a clip or a smoothing of forward that backward lacks, or has outside of the root.",
    C.GRADIENTS_SWAPPED: "The order of the tuple that backward returns: that of the arrays of forward.",
    C.ALL_TIES_REWARDED: "A mask `x == y`: several entries may be the maximum. Keep the argmax of forward.",
    C.WRONG_TIE_WINNER: "`>=` in a loop takes the last maximum, argmax takes the first. Use the winner of forward.",
    C.WRONG_SIDE_OF_KINK: "`>` in forward and `>=` in backward, or the reverse. Use one comparison in both.",
    C.TRUNCATED: "An array of integers that is given floats: `dtype=int`, `np.zeros_like(labels)`; `//` for `/`.",
    C.ROUNDED_TO_FLOAT32: "`astype(np.float32)`, a buffer that is always float32, or a constant that is float32.",
    C.STALE_CACHE: "Arrays kept in the layer (`self.x`) or in a global, which the next forward overwrites.",
    C.CACHE_OVERWRITTEN: "In-place operations of backward on cached arrays: `x *=`, `out=x`, `x.sort()`. Copy first.",
    C.ACCUMULATES: "`self.dw +=` without a reset, a buffer that is made once. Name what clears it, `reset=`.",
    C.RANDOM: "A draw in forward or in backward. Take the mask, or the generator's seed, as an argument.",
    C.INPUT_OVERWRITTEN: "In-place operations on an argument: `x -=`, `dy *=`, `out=x`. Write into a new array.",
    C.ALIASED: "A gradient that is a view: `dy`, `dy.T`, `dy.reshape(...)`, a slice. Return a copy.",
    C.LAYOUT: "Code that takes an array for contiguous: `.ctypes`, `.view`, `as_strided`. Use `np.ascontiguousarray`.",
    C.GRADIENT_COUNT: "The return of backward: a tuple with one gradient for each floating array, in order.",
    C.NO_GRADIENT: "A branch of backward without a return; a list or a number in the place of an array.",
    C.WRONG_SHAPE: "`keepdims`, a `squeeze`, a broadcast array whose gradient is not summed to its shape.",
    C.WRONG_DTYPE: "`np.zeros(shape)` without a dtype, which is float64; a constant of another dtype.",
    C.RAISED: "The line that the message names, run at the arrays that it names.",
    C.FORWARD_RESULT: "The return of forward: (y, cache), with y a floating array of one shape in every call.",
    C.NOT_LINEAR: "A clip, a threshold or a rounding of dy in backward. Clip gradients in the optimizer.",
    C.NOT_FINITE: "0/0, log(0), the root at 0, an exp that overflows. `np.where` computes both of its branches.",
    C.UNKNOWN: "The map of wrong entries, and the lines that reproduce one: work a small case by hand.",
}
