"""`Options`: how files are upscaled, written and named; and the digest of all that decides the content of a result."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from srgan_jax import images
from srgan_jax.weights import Weights


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of `upscale_files`.

    Attributes:
      quality: of JPEG, WebP, AVIF and JPEG XL, 1 to 100.
      overwrite: replace existing files.
      strip: drop all metadata, and convert colours to sRGB.
      drop_opaque_alpha: drop alpha channels that are opaque everywhere.
      self_ensemble: average the results of the eight flips and rotations.
      max_pixels: larger inputs fail.
      max_seconds: longest time for decoding an input.
      salvage: take what can be read of damaged inputs.
      tile_px: side of the tiles in LR pixels; None chooses it by the free memory.
      threads: number of decoding threads, and of encoding threads.
    """

    quality: int = 95
    overwrite: bool = False
    strip: bool = False
    drop_opaque_alpha: bool = False
    self_ensemble: bool = False
    max_pixels: int = images.MAX_PIXELS
    max_seconds: float = images.MAX_SECONDS
    salvage: bool = False
    tile_px: int | None = None
    threads: int = 2

    @property
    def reading(self) -> dict[str, Any]:
        """The arguments of `images.decode_image` that are the same for all files."""
        return {"max_pixels": self.max_pixels, "max_seconds": self.max_seconds, "salvage": self.salvage}


NOT_IN_RESULTS = ("overwrite", "max_pixels", "max_seconds", "tile_px", "threads")  # don't change what is in a result


def settings_digest(generators: Sequence[Weights], options: Options) -> str:
    """Returns the SHA-256 of the weights and the options that decide the content of results, hexadecimal."""
    kept = {key: value for key, value in dataclasses.asdict(options).items() if key not in NOT_IN_RESULTS}
    return weights_digest(generators, json.dumps(kept, sort_keys=True, default=list))


def weights_digest(generators: Sequence[Weights], settings: str) -> str:
    """Returns the SHA-256 of the architectures and tensors of generators and of the text `settings`, hexadecimal."""
    content = hashlib.sha256()
    for weights in generators:
        content.update(json.dumps(dict(weights.architecture), sort_keys=True, default=list).encode())
        for path, leaf in sorted(jax.tree_util.tree_leaves_with_path(weights.variables), key=lambda item: str(item[0])):
            content.update(f"{path}{leaf.shape}".encode())
            content.update(np.ascontiguousarray(leaf).tobytes())
    content.update(settings.encode())
    return content.hexdigest()
