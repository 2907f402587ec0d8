"""Contact sheets: images placed side by side."""

import numpy as np
from PIL import Image


def side_by_side(columns: list[np.ndarray], height: int | None = None, gap: int = 4) -> np.ndarray:
    """Returns images of the same content in one row, separated by white.

    Args:
      columns: the images, `[H, W, 3]` uint8 each; resized to `height` by nearest neighbour.
      height: height of the result; by default the largest height of the images.
      gap: white pixels between two images.

    Returns:
      `[height, sum of widths + gaps, 3]` uint8.
    """
    side = height or max(image.shape[0] for image in columns)
    row = []
    for image in columns:
        size = (round(image.shape[1] * side / image.shape[0]), side)
        row += [np.asarray(Image.fromarray(image).resize(size, Image.Resampling.NEAREST))]
        row += [np.full((side, gap, 3), 255, np.uint8)]
    return np.concatenate(row[:-1], axis=1)
