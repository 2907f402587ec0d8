"""People's pictures as arrays, with all that a file says about them: depth, alpha, profile, frames."""

import contextlib
import dataclasses
import functools
import os
import threading
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageOps

from srgan_jax.images.files import ImageError, reason

MAX_PIXELS = 256_000_000  # of a picture, all frames together
MAX_FRAMES = 4096
KEPT_EXIF = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298, 0x8769, 0x8825)  # the rest describes the old file
STALE_EXIF = (0xA002, 0xA003, 0xA005)  # of the Exif directory: old width and height, interoperability
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
EXIF_DIRECTORY = 0x8769

_lock = threading.Lock()  # Pillow's limit of pixels is global


@dataclasses.dataclass(frozen=True)
class Picture:
    """What a picture file holds, turned upright.

    Attributes:
      frames: `[H, W, C]` each, uint8 or uint16; C is 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGB, alpha). Alpha is
        not multiplied into the colours. One, except for animations and files of several pages.
      icc: colour profile.
      exif: EXIF as Pillow writes it, without the orientation, which is applied.
      dpi: dots per inch, horizontally and vertically.
      durations_ms: of the frames of an animation; empty for stills and pages.
      loop: how often an animation is repeated, 0 for ever; None where the file doesn't say.
    """

    frames: tuple[np.ndarray, ...]
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    durations_ms: tuple[int, ...] = ()
    loop: int | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """`(H, W, C)` of the first frame."""
        return self.frames[0].shape


@contextlib.contextmanager
def open_picture(file: str | os.PathLike | BinaryIO, max_pixels: int = MAX_PIXELS) -> Iterator[Image.Image]:
    """The file opened by Pillow, its header read, and refused where it claims too many pixels.

    Raises:
      ImageError: not a picture in a known format, unreadable, or too large; also for what goes wrong inside.
    """
    _register_plugins()
    try:
        if not hasattr(file, "read") and not os.path.isfile(file):
            raise ImageError("no such file" if not os.path.exists(file) else "not a file")
        with _lock:
            limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ours is checked below
            try:
                image = Image.open(file)
            finally:
                Image.MAX_IMAGE_PIXELS = limit
        with image:
            _check_pixels(image.width * image.height, max_pixels)
            yield image
    except ImageError:
        raise
    except Exception as error:  # Pillow's plug-ins raise nearly everything on damaged files
        raise ImageError(reason(error)) from None


@functools.cache
def _register_plugins() -> None:
    with contextlib.suppress(ImportError):  # the extra "heic"
        import pillow_heif

        pillow_heif.register_heif_opener()


def _check_pixels(pixels: int, max_pixels: int) -> None:
    if not pixels:
        raise ImageError("has no pixels")
    if pixels > max_pixels:
        raise ImageError(f"{pixels / 1e6:,.0f} megapixels, more than the limit of {max_pixels / 1e6:,.0f}")


def read_image(file: str | os.PathLike | BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Reads a picture of any kind without losing anything of it.

    EXIF orientation is applied. Gray stays gray, 16 bits stay 16 bits, alpha stays. Palettes become gray or RGB, 1-bit
    becomes gray, CMYK and Lab become RGB through their profile. Animated GIF, WebP, PNG and AVIF give all frames, TIFF
    all pages.

    Args:
      file: path or open binary file.
      max_pixels: refuse pictures with more, all frames together.

    Raises:
      ImageError: not a picture, damaged, too large, or not readable.
    """
    with open_picture(file, max_pixels) as image:
        count = _frame_count(image)
        _check_pixels(image.width * image.height * count, max_pixels)
        about = _metadata(image)
        if _is_deep(image):
            return Picture(_deep_frames(file, image, max_pixels), **about)
        frames, durations = [], []
        for index in range(count):
            image.seek(index)
            frames.append(_pixels(image))
            durations.append(max(0, int(image.info.get("duration") or 0)))
        if image.mode not in ("RGB", "RGBA", "RGBX", "L", "LA", "1", "P") and image.mode[0] != "I":
            about["icc"] = None  # it was used up by the conversion
        if count > 1 and image.format in ANIMATED:
            about |= {"durations_ms": tuple(durations), "loop": image.info.get("loop")}
        return Picture(_alike(frames) if count > 1 and image.format in ANIMATED else tuple(frames), **about)


def _frame_count(image: Image.Image) -> int:
    if image.format not in (*ANIMATED, "TIFF"):
        return 1
    count = getattr(image, "n_frames", 1)
    if count > MAX_FRAMES:
        raise ImageError(f"{count} frames, more than the limit of {MAX_FRAMES}")
    return count


def _metadata(image: Image.Image) -> dict[str, Any]:
    icc, dpi = image.info.get("icc_profile"), image.info.get("dpi")
    with contextlib.suppress(Exception):  # damaged: as if there were none
        dpi = tuple(float(value) for value in dpi)
        dpi = dpi if len(dpi) == 2 and all(1 <= value <= 100_000 for value in dpi) else None
    return {"icc": icc or None, "exif": _exif(image), "dpi": dpi if isinstance(dpi, tuple) else None}


def _exif(image: Image.Image) -> bytes | None:
    """What EXIF says of the photograph; what it says of the file (size, orientation, preview) is left out."""
    with contextlib.suppress(Exception):  # damaged EXIF is no reason to refuse a picture
        exif = image.getexif()
        for tag in [tag for tag in exif if tag not in KEPT_EXIF]:
            del exif[tag]
        for tag in STALE_EXIF:
            exif.get_ifd(EXIF_DIRECTORY).pop(tag, None)
        return exif.tobytes() if len(exif) else None
    return None


def _is_deep(image: Image.Image) -> bool:
    """Whether Pillow would cut the samples to 8 bits: it knows 16 for gray alone."""
    if image.format == "PNG":
        args = image.tile[0].args if image.tile else ""
        return "16" in str(args) and image.mode[0] != "I"
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, (8,))
        return max(bits if isinstance(bits, tuple) else (bits,)) > 8 and not image.mode.startswith("I;16")
    return False


def _deep_frames(file: str | os.PathLike | BinaryIO, image: Image.Image, max_pixels: int) -> tuple[np.ndarray, ...]:
    orientation = image.getexif().get(0x0112, 1)
    if image.format == "PNG":
        from imagecodecs import png_decode

        pixels = png_decode(Path(file).read_bytes() if not hasattr(file, "read") else _all_of(file))
        return (_upright(pixels if pixels.ndim == 3 else pixels[..., None], orientation),)
    from tifffile import TiffFile

    with TiffFile(file if not hasattr(file, "read") else BytesIO(_all_of(file))) as tiff:
        pages = list(tiff.pages)[:MAX_FRAMES]
        _check_pixels(sum(page.imagewidth * page.imagelength for page in pages), max_pixels)
        return tuple(_upright(_tiff_pixels(page), orientation) for page in pages)


def _all_of(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """EXIF orientation 1 to 8 applied to an array."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _tiff_pixels(page: Any) -> np.ndarray:
    """One page as `[H, W, C]` uint16."""
    photometric = page.photometric.name
    colours = {"MINISBLACK": 1, "MINISWHITE": 1, "RGB": 3}.get(photometric)
    if colours is None or page.ndim not in (2, 3):
        raise ImageError(f"TIFF of {photometric} with more than 8 bits is not supported")
    pixels = page.asarray()
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if page.planarconfig.name == "SEPARATE":
        pixels = np.moveaxis(pixels, 0, -1)
    pixels = _to_uint16(pixels)
    if photometric == "MINISWHITE":
        pixels = 65535 - pixels
    alpha = pixels.shape[-1] > colours and page.extrasamples and page.extrasamples[0].name != "UNSPECIFIED"
    if alpha and page.extrasamples[0].name == "ASSOCALPHA":
        share = np.maximum(pixels[..., colours : colours + 1], 1) / 65535.0
        pixels[..., :colours] = np.minimum(pixels[..., :colours] / share + 0.5, 65535).astype(np.uint16)
    return np.ascontiguousarray(pixels[..., : colours + bool(alpha)])


def _to_uint16(samples: np.ndarray) -> np.ndarray:
    """16-bit samples from any kind: floats in [0, 1], 32-bit integers over their range, 8-bit ones widened."""
    if samples.dtype == np.uint16:
        return samples
    if samples.dtype == np.uint8:
        return samples.astype(np.uint16) * np.uint16(257)
    if samples.dtype == np.uint32:
        return (samples >> 16).astype(np.uint16)
    if samples.dtype.kind == "f" and np.isfinite(samples).all() and samples.min() >= 0 and samples.max() <= 1:
        return np.floor(samples * 65535.0 + 0.5).astype(np.uint16)
    raise ImageError(f"{samples.dtype} samples from {samples.min()} to {samples.max()}; floats must lie in [0, 1]")


def _pixels(image: Image.Image) -> np.ndarray:
    """The current frame as `[H, W, C]`, uint8, or uint16 where it has 16 bits."""
    image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":
        samples = np.asarray(image)
        if image.mode == "I":  # 32 bits, as which 16-bit files are read now and then
            if samples.min() < 0 or samples.max() > 65535:
                raise ImageError(f"32-bit samples from {samples.min()} to {samples.max()}; expected 0 to 65535")
            samples = samples.astype(np.uint16)
        return _to_uint16(samples.astype(samples.dtype.newbyteorder("=")))[..., None]
    pixels = np.asarray(image.convert(_plain_mode(image)) if image.mode not in ("CMYK", "LAB") else _through(image))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _plain_mode(image: Image.Image) -> str:
    """L, LA, RGB or RGBA: the one that loses nothing."""
    alpha = image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info
    gray = image.mode in ("1", "L", "LA", "La")
    if image.mode == "P" and not image.info.get("icc_profile"):
        colours = np.array(image.getpalette("RGB") or [0, 0, 1]).reshape(-1, 3)
        gray = bool((colours == colours[:, :1]).all())
    return ("L" if gray else "RGB") + ("A" if alpha else "")


def _through(image: Image.Image) -> Image.Image:
    """CMYK or Lab to sRGB, through the profile in the file where it has one that fits."""
    if profile := image.info.get("icc_profile"):
        with contextlib.suppress(ImageCms.PyCMSError, OSError):
            return ImageCms.profileToProfile(
                image, ImageCms.ImageCmsProfile(BytesIO(profile)), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
    if image.mode == "LAB":
        lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
        return ImageCms.profileToProfile(image, lab, srgb, outputMode="RGB")
    return image.convert("RGB")


def _alike(frames: list[np.ndarray]) -> tuple[np.ndarray, ...]:
    """Frames with the same channels: gray becomes RGB, opaque gets alpha, where another frame has them."""
    colour, alpha = any(f.shape[-1] > 2 for f in frames), any(f.shape[-1] in (2, 4) for f in frames)
    alike = []
    for frame in frames:
        channels = frame.shape[-1]
        plain = frame[..., : channels - (channels in (2, 4))]
        plain = np.repeat(plain, 3, axis=-1) if colour and plain.shape[-1] == 1 else plain
        opaque = np.full((*frame.shape[:2], 1), np.iinfo(frame.dtype).max, frame.dtype)
        over = frame[..., -1:] if channels in (2, 4) else opaque
        alike.append(np.concatenate([plain, over], axis=-1) if alpha else plain)
    return tuple(alike)
