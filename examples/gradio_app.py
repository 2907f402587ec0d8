"""Upscales images on a page in the browser, by gradio; weights and computation stay on this machine.

pip install gradio
python examples/gradio_app.py [WEIGHTS]     # a name, a file, a run, or hf://owner/name; default: photo_x4
gradio 6 installs Pillow 12, an older version than srgan_jax asks for: use an environment of its own, or install
"pillow>=13" afterwards.
"""

import sys

import gradio
import numpy as np
from PIL import Image

import srgan_jax


def make_app(weights: str = "photo_x4") -> gradio.Interface:
    """Returns the app of a generator; `weights` is what `srgan_jax.load` takes."""
    generator = srgan_jax.load(weights)

    def upscale(image: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """Returns an image `[H, W, 3]` uint8, enlarged by bicubic interpolation, and by the generator."""
        if image is None:
            raise gradio.Error("choose an image first")
        sr = np.asarray(srgan_jax.upscale_tiled(generator, image))
        size = (sr.shape[1], sr.shape[0])
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)), sr

    return gradio.Interface(
        upscale,
        gradio.Image(label="image", type="numpy", image_mode="RGB"),
        gradio.ImageSlider(label="bicubic | upscaled", format="png"),
        title=f"{weights}: x{generator.scale}",
        flagging_mode="never",
        analytics_enabled=False,  # gradio would report its use
    )


if __name__ == "__main__":
    make_app(*sys.argv[1:2]).queue(max_size=8).launch(max_file_size="50mb")
