"""Scopes of windowed layers: the axes within a bound, and pairs of axes in parts that a sweep shares out.

No number that an option or a size is given as exceeds the bound. What is one number for both axes is given as a pair.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from verify.layers._layer import Configuration

Part = Callable[[], Iterator[Configuration]]
_First = TypeVar("_First")
_Second = TypeVar("_Second")


class Sliding(NamedTuple):
    """One axis of a window: the size of the image, and kernel, stride, dilation and padding of the window."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int

    @property
    def window(self) -> int:
        """The entries from the first tap to the last."""
        return self.dilation * (self.kernel - 1) + 1

    @property
    def even(self) -> bool:
        """Whether both sides have the same padding."""
        return self.before == self.after

    def out(self, *, ceil_mode: bool = False) -> int:
        """Return the number of windows; none or less if there is no room."""
        slack = self.before + self.size + self.after - self.window
        if not ceil_mode:
            return slack // self.stride + 1
        out = -(-slack // self.stride) + 1
        return out - ((out - 1) * self.stride >= self.before + self.size)  # a window that starts behind the image

    def is_pool(self, *, ceil_mode: bool = False) -> bool:
        """Whether the padding is at most half the window, and each window holds an entry of the image."""
        starts = [o * self.stride - self.before for o in range(self.out(ceil_mode=ceil_mode))]
        taps = range(0, self.window, self.dilation)
        hit = all(any(0 <= start + tap < self.size for tap in taps) for start in starts)
        return hit and starts != [] and 2 * max(self.before, self.after) <= self.window


class Transposed(NamedTuple):
    """One axis of a transposed convolution: the size of x, and the numbers of its window, which crops y."""

    size: int
    kernel: int
    stride: int
    dilation: int
    before: int
    after: int
    extra: int

    @property
    def plain(self) -> bool:
        """Whether both sides are cropped alike, and nothing is put behind."""
        return self.before == self.after and self.extra == 0

    @property
    def idle(self) -> bool:
        """Whether a stride or dilation above 1 moves nothing: there is one entry, or one tap."""
        return self.size == 1 < self.stride or self.kernel == 1 < self.dilation


@functools.cache
def sliding_axes(bound: int) -> tuple[Sliding, ...]:
    """Return every window along one axis that fits, with any padding before and after."""
    return tuple(axis for axis in _within(bound) if axis.out() >= 1)


@functools.cache
def pool_axes(bound: int, *, ceil_mode: bool = False, dilated: bool = True) -> tuple[Sliding, ...]:
    """Return every window of a pool along one axis. With ceil_mode there are some larger than the padded image."""
    numbers = (axis for axis in _within(bound) if dilated or axis.dilation == 1)
    return tuple(axis for axis in numbers if axis.is_pool(ceil_mode=ceil_mode))


@functools.cache
def same_axes(bound: int) -> tuple[Sliding, ...]:
    """Return every axis whose padding is "same"."""
    sizes = itertools.product(range(1, bound + 1), repeat=3)
    return tuple(
        Sliding(size, kernel, 1, dilation, d // 2, d - d // 2)
        for size, kernel, dilation in sizes
        for d in [dilation * (kernel - 1)]
    )


@functools.cache
def transposed_axes(bound: int) -> tuple[Transposed, ...]:
    """Return every axis of a transposed convolution that leaves an entry of y, with any crop and output_padding."""
    found = []
    for axis in _within(bound):
        size = (axis.size - 1) * axis.stride + axis.window - axis.before - axis.after
        for extra in range(min(bound + 1, max(axis.stride, axis.dilation))):
            if size + extra >= 1:
                found.append(Transposed(*axis, extra))
    return tuple(found)


def _within(bound: int) -> Iterator[Sliding]:
    numbers, paddings = range(1, bound + 1), range(bound + 1)
    return itertools.starmap(Sliding, itertools.product(*[numbers] * 4, *[paddings] * 2))


def crossed(
    firsts: Iterable[_First], seconds: Sequence[_Second], make: Callable[[_First, _Second], Iterable[Configuration]]
) -> list[Part]:
    """Return one part for each of the first. It has what `make` gives for this one beside each of the second."""

    def part(first: _First) -> Iterator[Configuration]:
        return itertools.chain.from_iterable(make(first, second) for second in seconds)

    return [functools.partial(part, first) for first in firsts]


def beside(
    one: _First, others: Sequence[_First], make: Callable[[_First, _First], Iterable[Configuration]]
) -> list[Part]:
    """Return the pairs of one axis with each of the others: once as the rows, once as the columns."""
    return [*crossed([one], others, make), *crossed([one], others, lambda one, other: make(other, one))]


def paired(bound: int, axes: Sequence[Any], make: Callable[[Any, Any], Configuration]) -> list[Part]:
    """Return every pair of the axes with the same padding on both sides. The others stand beside one axis."""
    even, uneven = ([axis for axis in axes if axis.even is wanted] for wanted in (True, False))
    one = Sliding(min(2, bound), min(2, bound), 1, 1, 0, 0)
    return [
        *crossed(even, even, lambda rows, columns: [make(rows, columns)]),
        *beside(one, uneven, lambda rows, columns: [make(rows, columns)]),
    ]


def sliding(bound: int, make: Callable[[Sliding, Sliding], Configuration]) -> list[Part]:
    """Return the pairs of axes of a convolution: `paired`, and every pair with "same" and with "valid"."""
    axes = sliding_axes(bound)
    return [*paired(bound, axes, make), *named(same_axes(bound), axes, make)]


def pools(bound: int, make: Callable[[Sliding, Sliding], Configuration], *, dilated: bool = True) -> list[Part]:
    """Return every pair of axes of a pool with "same", with "valid", and with the default of stride."""
    axes = pool_axes(bound, dilated=dilated)
    same = [axis for axis in same_axes(bound) if axis.is_pool() and (dilated or axis.dilation == 1)]
    touching = [axis for axis in axes if axis.even and axis.stride == axis.kernel]
    default = crossed(touching, touching, lambda *pair: [with_options(make(*pair), stride=None)])
    return [*named(same, axes, make), *default]


def named(same: Sequence[Any], axes: Sequence[Any], make: Callable[[Any, Any], Configuration]) -> list[Part]:
    """Return every pair of axes whose padding is "same", and every pair without padding, as "valid"."""
    valid = [axis for axis in axes if axis.before == axis.after == 0]
    return [
        *crossed(same, same, lambda *pair: [with_options(make(*pair), padding="same")]),
        *crossed(valid, valid, lambda *pair: [with_options(make(*pair), padding="valid")]),
    ]


def with_options(configuration: Configuration, **options: Any) -> Configuration:
    """Return a configuration with other options."""
    return configuration._replace(options={**configuration.options, **options})


def window(rows: Any, columns: Any) -> dict[str, Any]:
    """Return the options stride, padding and dilation of two axes."""
    return {
        "stride": (rows.stride, columns.stride),
        "padding": ((rows.before, rows.after), (columns.before, columns.after)),
        "dilation": (rows.dilation, columns.dilation),
    }


def small(axes: Iterable[Any]) -> list[Any]:
    """Return the axes whose numbers are at most 2, with the same padding on both sides."""
    return [axis for axis in axes if max(axis) <= 2 and axis.before == axis.after]


def batches(bound: int) -> list[tuple[int, int]]:
    """Return every number of images, from none, and of channels, without those of one image and one channel."""
    return [each for each in itertools.product(range(bound + 1), range(1, bound + 1)) if each != (1, 1)]


def groupings(bound: int) -> Iterator[tuple[int, int, int, int, bool]]:
    """Yield images, groups, channels of a group, filters of a group, and whether there is a bias.

    All groups, channels and filters within the bound come with two images. All numbers of images come with one each.
    One image, group, channel and filter with a bias is left out: that is what pairs of axes have.
    """
    numbers = range(1, bound + 1)
    counts = {(images, 1, 1, 1): None for images in range(bound + 1)}
    for groups, channels, filters in itertools.product(numbers, repeat=3):
        if groups * max(channels, filters) <= bound:
            counts[min(2, bound), groups, channels, filters] = None
    for each, bias in itertools.product(counts, (True, False)):
        if (*each, bias) != (1, 1, 1, 1, True):
            yield (*each, bias)
