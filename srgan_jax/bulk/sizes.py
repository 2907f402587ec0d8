"""The size of a result: from --scale, --width, --height, --long-side, --short-side or --fit."""

import dataclasses
import math
import re
from collections.abc import Iterable, Iterator

import numpy as np

from srgan_jax import images
from srgan_jax.runtime.errors import UserError

MAX_ENLARGEMENT = 2.0  # by bicubic interpolation after the network; above it the network runs once more


@dataclasses.dataclass(frozen=True)
class SizeOf:
    """Function from the size of an input to the size of its result, each (height, width).

    Attributes:
      network_scale: SR pixels per LR pixel of the generators, each applied once; the factor if nothing else is given.
      option: name of the option that was given, such as "--width"; "" for none.
      value: its value.
      fit: height and width of the result for --fit.
      pad: whether --fit adds borders instead of cropping.
    """

    network_scale: int
    option: str = ""
    value: float = 0.0
    fit: tuple[int, int] | None = None
    pad: bool = False

    def __call__(self, height: int, width: int) -> tuple[int, int]:
        """Returns height and width of the result."""
        return self.fit or self.resized(height, width)

    def resized(self, height: int, width: int) -> tuple[int, int]:
        """Returns height and width of the whole image in the result's resolution, before it is cropped or padded."""
        ratio = self.ratio(height, width)
        size = max(1, round(height * ratio)), max(1, round(width * ratio))
        if self.fit is None:
            return size
        nearest = min if self.pad else max
        return nearest(size[0], self.fit[0]), nearest(size[1], self.fit[1])

    def ratio(self, height: int, width: int) -> float:
        """Returns the factor from the input to the result."""
        if self.fit:
            return (min if self.pad else max)(self.fit[0] / height, self.fit[1] / width)
        sides = {"--width": width, "--height": height}
        sides |= {"--long-side": max(height, width), "--short-side": min(height, width)}
        return self.value / sides[self.option] if self.option in sides else self.value or self.network_scale

    def passes(self, height: int, width: int) -> int:
        """Returns how often the network is applied so that bicubic enlarges by less than `MAX_ENLARGEMENT`."""
        count = 1
        while self.network_scale > 1 and self.ratio(height, width) >= MAX_ENLARGEMENT * self.network_scale**count:
            count += 1
        return count


def target_size(
    network_scale: int,
    *,
    scale: float | None = None,
    width: int | None = None,
    height: int | None = None,
    long_side: int | None = None,
    short_side: int | None = None,
    fit: str | None = None,
    pad: bool = False,
) -> SizeOf:
    """Returns the function from the size of an input to the size of its result.

    Args:
      network_scale: factor used if none of the others is given.
      scale: factor.
      width: width of the results in pixels.
      height: height of the results in pixels.
      long_side: longer side of the results in pixels.
      short_side: shorter side of the results in pixels.
      fit: "WIDTHxHEIGHT" of the results in pixels; what is outside this format is cut off on both sides.
      pad: with `fit`, keep the whole image and add black (with alpha: transparent) borders.

    Raises:
      UserError: more than one size is given, or one that is not positive, or `pad` without `fit`.
    """
    given = {"--scale": scale, "--width": width, "--height": height, "--long-side": long_side}
    given = {name: v for name, v in (given | {"--short-side": short_side, "--fit": fit}).items() if v is not None}
    if len(given) > 1:
        listed = ", ".join(f"{name} {value}" for name, value in given.items())
        raise UserError(
            "expected one of --scale, --width, --height, --short-side, --fit and --long-side, got " + listed
        )
    if pad and fit is None:
        raise UserError("--pad needs --fit, for instance --fit 3840x2160 --pad")
    if fit is not None:
        match = re.fullmatch(r"([1-9]\d{0,8})[xX\u00d7]([1-9]\d{0,8})", fit)
        if not match:
            raise UserError(f"--fit {fit}: expected WIDTHxHEIGHT in pixels, for instance 3840x2160")
        return SizeOf(network_scale, "--fit", fit=(int(match[2]), int(match[1])), pad=pad)
    for name, value in given.items():
        if not (isinstance(value, int | float) and value > 0 and math.isfinite(value)):
            raise UserError(f"{name} {value}: expected more than 0")
        return SizeOf(network_scale, name, float(value))
    return SizeOf(network_scale)


def rows_of_result(
    strips: Iterable[np.ndarray], shape: tuple[int, int, int], before: tuple[int, int], size_of: SizeOf
) -> Iterator[np.ndarray]:
    """Yields the rows of a result: resizes what the network gave, then crops or pads it for --fit.

    Args:
      strips: `[h, W, C]` each, from top to bottom.
      shape: `(H, W, C)` of all strips together.
      before: height and width of the input.
      size_of: the size of the result.
    """
    resized, (height, width) = size_of.resized(*before), size_of(*before)
    rows = images.resize_rows(strips, shape, resized)
    if resized == (height, width):
        yield from rows
        return
    top, left = (resized[0] - height) // 2, (resized[1] - width) // 2  # negative: borders
    border = (max(0, -left), max(0, width - resized[1] + left))
    above, below = max(0, -top), max(0, height - resized[0] + top)
    position, dtype = 0, np.dtype(np.uint8)
    for band in rows:
        dtype = band.dtype
        if position == 0 and above:
            yield np.zeros((above, width, shape[2]), dtype)
        kept = band[max(0, top - position) : max(0, top + height - position)]
        kept = kept[:, max(0, left) : max(0, left) + width]
        position += len(band)
        if len(kept):
            yield np.pad(kept, ((0, 0), border, (0, 0)))
    if below:
        yield np.zeros((below, width, shape[2]), dtype)
