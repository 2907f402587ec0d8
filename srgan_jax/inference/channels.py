"""Conversion between images (gray, RGB, alpha, any depth) and the RGB tiles that a generator takes; self-ensemble."""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from srgan_jax.inference.tile_grid import Span
from srgan_jax.runtime.errors import UserError


class TiledImage(NamedTuple):
    """An image to upscale, as two functions: one cuts RGB tiles for the generator, one converts their results back."""

    size: tuple[int, int]  # height and width, LR pixels
    cut: Callable[[Span, Span], list[np.ndarray]]  # rows, columns -> tiles [h, w, 3] in [0, 1]
    join: Callable[[list[np.ndarray], Span, Span], np.ndarray]  # SR of these tiles -> [h * scale, w * scale, C]


def from_array(frame: np.ndarray, channels: int = 3) -> TiledImage:
    """Returns a `TiledImage` of `frame` for a generator of so many channels; its result has the channels of `frame`.

    A generator of one channel upscales each channel by itself. One of another number than 1 or 3 takes images of
    exactly its channels. For one of RGB, gray is repeated, and alpha is upscaled as an image of its own.

    Colours are multiplied by alpha before upscaling and divided by it afterwards, so that the colours of transparent
    pixels don't bleed into edges.

    Args:
      frame: `[H, W, C]` uint8, uint16, or float in [0, 1]; C is 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha).
      channels: of the generator.

    Raises:
      UserError: an image of other channels, where the generator has neither 1 nor 3.
    """
    if channels not in (1, 3):
        return _of_bands(frame, channels)
    largest = np.float32(np.iinfo(frame.dtype).max if frame.dtype.kind == "u" else 1.0)
    colours = frame.shape[-1] - (frame.shape[-1] in (2, 4))
    has_alpha = frame.shape[-1] > colours

    def read(rows: Span, columns: Span) -> np.ndarray:
        return frame[rows.start : rows.stop, columns.start : columns.stop].astype(np.float32) / largest

    def rgb(image: np.ndarray) -> np.ndarray:
        return image if image.shape[-1] == 3 else np.repeat(image, 3, axis=-1)

    def cut(rows: Span, columns: Span) -> list[np.ndarray]:
        image = read(rows, columns)
        colour, alpha = image[..., :colours], image[..., colours:]
        if channels == 1:
            colour = colour * alpha if has_alpha else colour
            return [image[..., index : index + 1] for image in (colour, alpha) for index in range(image.shape[-1])]
        return [rgb(colour * alpha), rgb(alpha)] if has_alpha else [rgb(colour)]

    def join(results: list[np.ndarray], rows: Span, columns: Span) -> np.ndarray:
        if channels == 1:
            results = [np.concatenate(results[:colours], axis=-1), *results[colours:]]
        colour = results[0] if colours == 3 else results[0].mean(axis=-1, keepdims=True)
        if has_alpha:
            low, high = _local_bounds(read(rows, columns)[..., colours:], results[0].shape[:2])
            alpha = np.clip(results[1].mean(axis=-1, keepdims=True), low, high)
            colour = np.clip(colour / np.maximum(alpha, 0.5 / largest), 0.0, 1.0)
            colour = np.concatenate([np.where(alpha < 0.5 / largest, 0.0, colour), alpha], axis=-1)
        return to_dtype(colour, frame.dtype)

    return TiledImage(frame.shape[:2], cut, join)


def _of_bands(frame: np.ndarray, channels: int) -> TiledImage:
    """Returns a `TiledImage` of an image of exactly the channels of its generator."""
    if frame.shape[-1] != channels:
        raise UserError(f"expected an image of {channels} channels, those of the generator, got {frame.shape[-1]}")
    largest = np.float32(np.iinfo(frame.dtype).max if frame.dtype.kind == "u" else 1.0)

    def cut(rows: Span, columns: Span) -> list[np.ndarray]:
        return [frame[rows.start : rows.stop, columns.start : columns.stop].astype(np.float32) / largest]

    return TiledImage(frame.shape[:2], cut, lambda results, rows, columns: to_dtype(results[0], frame.dtype))


def _local_bounds(alpha: np.ndarray, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Returns minimum and maximum of each 3 x 3 neighbourhood, enlarged to `size`: constant areas stay constant."""
    padded = np.pad(alpha, ((1, 1), (1, 1), (0, 0)), mode="edge")
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(0, 1))
    factors = [after // before for after, before in zip(size, alpha.shape, strict=False)]
    low, high = (
        bound(around, axis=(-2, -1)).repeat(factors[0], axis=0).repeat(factors[1], axis=1) for bound in (np.min, np.max)
    )
    return low, high


def to_dtype(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Converts floats in [0, 1] to `dtype`: uint8 and uint16 scaled to their full range and rounded half up."""
    if dtype.kind != "u":
        return image.astype(dtype)
    return np.floor(image * np.float32(np.iinfo(dtype).max) + np.float32(0.5)).astype(dtype)


def self_ensemble(image: TiledImage) -> TiledImage:
    """Returns `image` with self-ensemble: the mean over eight flips and rotations (Timofte et al., CVPR 2016, 3.7)."""

    def cut(rows: Span, columns: Span) -> list[np.ndarray]:
        return [oriented for tile in image.cut(rows, columns) for oriented in _orientations(tile)]

    def join(results: list[np.ndarray], rows: Span, columns: Span) -> np.ndarray:
        means = [_mean_over_orientations(results[i : i + 8]) for i in range(0, len(results), 8)]
        return image.join(means, rows, columns)

    return image._replace(cut=cut, join=join)


def _orientations(image: np.ndarray) -> list[np.ndarray]:
    return [np.rot90(flipped, turns) for flipped in (image, image[:, ::-1]) for turns in range(4)]


def _mean_over_orientations(images: list[np.ndarray]) -> np.ndarray:
    restored = [np.rot90(image, -turns % 4) for image, turns in zip(images, itertools.cycle(range(4)), strict=False)]
    return np.asarray(np.mean([*restored[:4], *(image[:, ::-1] for image in restored[4:])], axis=0, dtype=np.float32))
