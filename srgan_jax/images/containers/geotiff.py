"""The place of an image on the map, in the tags of a GeoTIFF. OGC GeoTIFF 1.1, section 7."""

import numpy as np

from srgan_jax.images.containers.tiff_tags import Value, numbers

PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, KEYS = 33550, 33922, 34264, 34735
GEO_TAGS = (PIXEL_SCALE, TIE_POINTS, TRANSFORMATION, KEYS, 34736, 34737)
RASTER_TYPE, PIXEL_IS_POINT = 1025, 2
Tag = tuple[int, Value]


def resized(tags: tuple[Tag, ...], before: tuple[int, int], after: tuple[int, int]) -> tuple[Tag, ...]:
    """Returns the tags of a GeoTIFF for an image that was resized; the sizes are height and width in pixels.

    The pixel scale is divided by the factor, tie points are multiplied by it. Where coordinates are those of the
    centres of pixels (PixelIsPoint), the centre of the first pixel moves: i becomes (i + 0.5) * factor - 0.5.
    """
    values = dict(tags)
    factor = np.array([after[1] / before[1], after[0] / before[0]])
    shift = 0.5 if _pixel_is_point(values.get(KEYS)) else 0.0
    if scale := numbers(values.get(PIXEL_SCALE)):
        values[PIXEL_SCALE] = _doubles([*np.array(scale[:2]) / factor, *scale[2:]])
    if points := numbers(values.get(TIE_POINTS)):
        places = np.array(points).reshape(-1, 6)
        places[:, :2] = (places[:, :2] + shift) * factor - shift
        values[TIE_POINTS] = _doubles(places.ravel())
    if matrix := numbers(values.get(TRANSFORMATION)):
        transformation = np.array(matrix).reshape(4, 4)
        origin = shift / factor - shift  # the old coordinates of the new (0, 0)
        transformation[:, 3] += transformation[:, :2] @ origin
        transformation[:, :2] /= factor
        values[TRANSFORMATION] = _doubles(transformation.ravel())
    return tuple(values.items())


def _pixel_is_point(keys: Value | None) -> bool:
    entries = np.array(numbers(keys), int)
    rows = entries[: len(entries) // 4 * 4].reshape(-1, 4)[1:]  # after the header; key, place, number, value
    return any(tuple(row[[0, 3]]) == (RASTER_TYPE, PIXEL_IS_POINT) for row in rows)


def _doubles(values) -> Value:
    data = np.asarray(values, "<f8")
    return Value(12, len(data), data.tobytes())
