"""The causes that a FAIL can be given, each with its sentence and with what it is named by."""

from __future__ import annotations

import enum


class CauseCode(enum.Enum):
    """What may be wrong with a gradient: a code, its sentence, and the equality or fault that names it."""

    ZERO = "zero", "The gradient is zero where the true one is not.", "claimed = 0"
    SIGN = "sign", "It has the opposite sign.", "claimed = -true"
    BATCH_REDUCTION = (
        "batch-reduction",
        "Summed over the batch where it should be averaged, averaged where it should be summed, or every image gets "
        "the sum or the mean of all.",
        "claimed = true * N or true / N, N the batch, and without the last image the factor follows; or the sum, or "
        "mean, of true over its first axis",
    )
    CONSTANT_FACTOR = (
        "constant-factor",
        "It is a constant times the true one: something is counted too often or too rarely.",
        "claimed = c * true for one c, within the rounding of one factor",
    )
    UPSTREAM_COPIED = "upstream-copied", "It is dy.", "claimed = dy, broadcast where shapes allow"
    UPSTREAM_IGNORED = (
        "upstream-ignored",
        "It does not depend on dy.",
        "claimed = the true gradient for dy = 1; or claimed is the same for 2 dy",
    )
    UPSTREAM_BROADCAST = (
        "upstream-broadcast",
        "One entry, or one image, of dy stands for all of them.",
        "claimed = the true gradient for dy filled with that entry or image",
    )
    MASK_OF_UPSTREAM = (
        "mask-of-upstream",
        "The mask of a relu is taken of dy, not of x.",
        "claimed = dy where dy > 0, and a share of dy elsewhere; or the true gradient for max(dy, 0)",
    )
    DY_LAYOUT = (
        "dy-layout",
        "dy is read in another layout than it has.",
        "claimed = the true gradient for dy with its axes permuted or mirrored; or the gradient changes with the "
        "strides of dy",
    )
    STRIDE_IGNORED = (
        "stride-ignored",
        "The windows are taken at stride 1.",
        "claimed = the true gradient at stride 1, dy in the leading corner",
    )
    DILATION_IGNORED = (
        "dilation-ignored",
        "The taps are taken at dilation 1.",
        "claimed = the true gradient at dilation 1, dy in the leading corner",
    )
    GROUPS_IGNORED = (
        "groups-ignored",
        "Each filter reads the channels of the first group, or each channel all filters.",
        "claimed = the true gradient with groups=1 and the channels of the first group",
    )
    GROUPS_PERMUTED = (
        "groups-permuted",
        "The blocks of its groups are in another order.",
        "claimed = true with blocks of an axis permuted or interleaved",
    )
    PADDING_CROPPED = (
        "padding-cropped",
        "The padding is cropped, or put, at the wrong end.",
        "claimed = the true gradient of the padded array, cropped elsewhere; or for an array padded elsewhere",
    )
    WINNER_IN_PADDING = (
        "winner-in-padding",
        "The winner's index counts in the padded plane, and is used in the unpadded one.",
        "claimed = true, each entry at its index in the padded plane",
    )
    KERNEL_NOT_FLIPPED = (
        "kernel-not-flipped",
        "It is the true one for another array mirrored in its last two axes.",
        "claimed = the true gradient at that array",
    )
    TRANSPOSED = (
        "transposed",
        "Its axes are permuted, or those of another array.",
        "claimed = true with axes permuted, read in the shape it has; or the true gradient for another array so",
    )
    FEATURES_BATCH_SWAPPED = (
        "features-batch-swapped",
        "It was reshaped from (features, N) as if it were (N, features).",
        "claimed = true so rearranged, of an array whose first axis is a batch that does not mix",
    )
    HEIGHT_WIDTH = (
        "height-width-exchanged",
        "Height and width are exchanged: in an option, in an array, in dy or in the bounds of a loop.",
        "the forward has an option of windows, and claimed = the true gradient with that option, array or dy so "
        "exchanged; or for dy cut to as many rows as columns",
    )
    SYMMETRISED = (
        "symmetrised",
        "It is the true one of a matrix, made symmetric or folded into one triangle: the forward reads one triangle.",
        "claimed = (true + its transpose) / 2, or their sum, or one triangle of either",
    )
    FLIPPED = "flipped", "It is mirrored in one of its last two axes or both.", "claimed = true, mirrored"
    PERMUTED = "permuted", "Its slices along an axis are in another order.", "claimed = true, its slices so ordered"
    SHIFTED = (
        "shifted",
        "It, or dy, is moved along an axis.",
        "claimed = true moved by up to three entries, zeros or its other end moved in; or the true one for dy moved",
    )
    ONE_IMAGE_ONLY = (
        "one-image-only",
        "Of the batch one image alone counts.",
        "claimed = the true gradient for dy of that image alone",
    )
    ONE_POSITION_ONLY = (
        "one-position-only",
        "Of the positions along an axis of y one alone counts: a loop left too early, a sum left out.",
        "claimed = the true gradient for dy at that position alone",
    )
    REMAINDER_LOST = (
        "remainder-lost",
        "The last slices along an axis are lost: rows left over.",
        "claimed = true with zeros there, or the true gradient for dy with zeros there",
    )
    OVERLAP_ASSIGNED = (
        "overlap-assigned",
        "Of several contributions to an entry one alone counts: assigned, not added.",
        "claimed = the first or last contribution to each entry, in the order of y's entries",
    )
    NOT_REDUCED = (
        "not-reduced",
        "dy is summed over other axes than it should be: of a bias, say.",
        "claimed = dy summed over these axes",
    )
    DIAGONAL_ONLY = "diagonal-only", "Of the Jacobian the diagonal alone counts.", "claimed = dy times that diagonal"
    AT_OUTPUT = (
        "at-output",
        "The derivative is taken at y where an argument is meant: 1 - tanh(y)^2.",
        "claimed = the true gradient with y in the place of an argument",
    )
    AT_INPUT = (
        "at-input",
        "The derivative is taken at an argument where y is meant: x (1 - x) of a sigmoid.",
        "what is claimed with y in the place of that argument = the true gradient at the argument",
    )
    STATISTICS_CONSTANT = (
        "statistics-constant",
        "Means over an axis, such as the statistics of a batch, are taken as constants.",
        "claimed = 2 G - true, G the true gradient of the arrays beside a copy of themselves, which halves what an "
        "entry adds to a mean; or that, less its mean",
    )
    SMALL_CONSTANT = (
        "small-constant",
        "The two are a small constant apart: an epsilon of the forward that backward leaves out, say.",
        "at least half of the entries are wrong, all by less than a hundredth of the largest; the error is linear in "
        "dy and does not jump when the arrays move a little",
    )
    GRADIENTS_SWAPPED = (
        "gradients-swapped",
        "It is the gradient of another argument.",
        "claimed = the other's true gradient",
    )
    ALL_TIES_REWARDED = (
        "all-ties-rewarded",
        "At ties, each entry gets what it would get alone.",
        "right off ties; claimed = the one-sided derivative of each entry alone",
    )
    WRONG_TIE_WINNER = (
        "wrong-tie-winner",
        "At ties another entry wins than the forward's, all share, or none gets anything.",
        "right off ties; claimed = the derivative of the last entry tied, or an equal share, or 0 if m or more tie",
    )
    WRONG_SIDE_OF_KINK = (
        "wrong-side-of-kink",
        "At a kink that no tie makes it takes another slope than the forward's branch: relu'(0) = 1.",
        "right off kinks; claimed = a one-sided derivative, or the mean of both",
    )
    TRUNCATED = "truncated", "It is cut to whole numbers.", "claimed = trunc(true)"
    ROUNDED_TO_FLOAT32 = (
        "rounded-to-float32",
        "It went through float32.",
        "claimed = float32(true); or it holds numbers of float32 alone, right to half their digits",
    )
    STALE_CACHE = (
        "stale-cache",
        "It is that of another forward than the cache's.",
        "after forward B and forward A, backward of A gives B's; or after A and B; or all give the gradient of the "
        "first forward of the check",
    )
    CACHE_OVERWRITTEN = (
        "cache-overwritten",
        "A backward changes what the next one of the same forward reads.",
        "a second backward of one forward gives another gradient, and after a new forward it is the first again",
    )
    ACCUMULATES = (
        "accumulates",
        "Each backward, or each forward, adds to the one before.",
        "called again and again, the gradient grows in steps that are equal, or of one ratio",
    )
    RANDOM = "random", "The same call does not give the same result.", "a repetition gives another result"
    INPUT_OVERWRITTEN = (
        "input-overwritten",
        "The forward or the backward wrote to an argument.",
        "an argument is not what it was",
    )
    ALIASED = (
        "aliased",
        "It shares memory with an argument, with dy, y or another gradient.",
        "their memory overlaps",
    )
    LAYOUT = "layout", "It depends on the memory layout of an argument.", "another layout gives another gradient"
    GRADIENT_COUNT = (
        "gradient-count",
        "Too few or too many gradients, or no tuple of them.",
        "what backward returns is counted",
    )
    NO_GRADIENT = "no-gradient", "What should be a gradient is no array.", "its type"
    WRONG_SHAPE = "wrong-shape", "It has another shape than its argument.", "its shape"
    WRONG_DTYPE = "wrong-dtype", "It has another dtype than its argument.", "its dtype"
    RAISED = "raised", "The backward raised an exception.", "what it raised, and at which arrays"
    FORWARD_RESULT = (
        "forward-result",
        "The forward returned no real floating y with its cache, of one shape.",
        "what it returned",
    )
    NOT_LINEAR = (
        "not-linear",
        "It is no linear function of dy: a threshold, a clip, a quantisation.",
        "it is right for dy made larger or smaller; or claimed = true and what is claimed for dy = 0; or the gradients "
        "of two dy do not add up to that of their sum",
    )
    NOT_FINITE = "not-finite", "It holds NaN or an infinity.", "its first such entry"
    UNKNOWN = "unknown", "None of these.", "no equality holds, or fewer than two wrong entries speak"

    def __init__(self, code: str, meaning: str, named_by: str) -> None:
        self.code, self.meaning, self.named_by = code, meaning, named_by
