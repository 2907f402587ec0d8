"""People's pictures as arrays, with all that a file says about them: depth, alpha, profile, frames."""

import contextlib
import dataclasses
import functools
import os
import threading
from collections.abc import Iterator
from io import BytesIO
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from srgan_jax.images import deep
from srgan_jax.images.files import ImageError, check_pixels, reason, upright_size

MAX_PIXELS = 256_000_000  # of a picture, all frames together
KEPT_EXIF = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x8298, 0x8769, 0x8825)  # the rest describes the old file
STALE_EXIF = (0xA002, 0xA003, 0xA005)  # of the Exif directory: old width and height, interoperability
ANIMATED = ("GIF", "WEBP", "PNG", "AVIF")
EXIF_DIRECTORY, GPS_DIRECTORY = 0x8769, 0x8825

_lock = threading.Lock()  # Pillow's limit of pixels is global


class UnknownFormatError(ImageError):
    """A file in none of the formats that Pillow knows."""


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
      notes: a line for each thing that was lost in reading.
    """

    frames: tuple[np.ndarray, ...]
    icc: bytes | None = None
    exif: bytes | None = None
    dpi: tuple[float, float] | None = None
    durations_ms: tuple[int, ...] = ()
    loop: int | None = None
    notes: tuple[str, ...] = ()

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
        with contextlib.ExitStack() as stack:
            # Not by its path: Pillow would map some TIFFs into memory, and read turned ones wrongly.
            stream = file if hasattr(file, "read") else stack.enter_context(_open_file(file))
            with _lock:
                limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None  # ours is checked below
                try:
                    image = stack.enter_context(Image.open(stream))
                finally:
                    Image.MAX_IMAGE_PIXELS = limit
            check_pixels(image.width * image.height, max_pixels)
            yield image
    except ImageError:
        raise
    except UnidentifiedImageError as error:
        raise UnknownFormatError(reason(error)) from None
    except Exception as error:  # Pillow's plug-ins raise nearly everything on damaged files
        raise ImageError(reason(error)) from None


def _open_file(path: str | os.PathLike) -> BinaryIO:
    if os.path.isdir(path):
        raise ImageError("not a file" if os.access(path, os.R_OK | os.X_OK) else "permission denied")
    if os.path.exists(path) and not os.path.isfile(path):
        raise ImageError("not a file")
    return open(path, "rb")


@functools.cache
def _register_plugins() -> None:
    with contextlib.suppress(ImportError):  # the extra "heic"
        import pillow_heif

        pillow_heif.register_heif_opener()


def read_image(file: str | os.PathLike | BinaryIO, *, max_pixels: int = MAX_PIXELS) -> Picture:
    """Reads a picture of any kind without losing anything of it.

    EXIF orientation is applied. Gray stays gray, 16 bits stay 16 bits, alpha stays. Palettes become gray or RGB, 1-bit
    becomes gray, CMYK and Lab become RGB through their profile. Animated GIF, WebP, PNG and AVIF give all frames, TIFF
    all pages.

    Args:
      file: path or open binary file.
      max_pixels: refuse pictures with more, all frames together.

    Raises:
      ImageError: no such file, not a picture, damaged, too large, or not readable; the message begins with the path.
    """
    try:
        return decode_picture(file, max_pixels=max_pixels)
    except ImageError as error:
        raise ImageError(f"{os.fspath(file)}: {error}" if isinstance(file, str | os.PathLike) else str(error)) from None


def decode_picture(
    file: str | os.PathLike | BinaryIO, *, max_pixels: int = MAX_PIXELS, first_frame: bool = False
) -> Picture:
    """`read_image` for lists of files: the error message is the reason alone; with `first_frame` no other is read."""
    try:
        return _read_with_pillow(file, max_pixels, first_frame)
    except UnknownFormatError:
        if not deep.is_tiff(file):
            raise
        with deep.tiff_pages(file, max_pixels, first_frame) as pages:
            return Picture(tuple(map(deep.tiff_pixels, pages)), **deep.tiff_metadata(pages[0]))


def image_size(file: str | os.PathLike | BinaryIO, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Height and width of what `decode_picture` would give, from the file's header; raises what it would raise."""
    try:
        with open_picture(file, max_pixels) as image:
            early = "exif" in image.info or image.format != "PNG"  # else Pillow reads the whole PNG to look for it
            return upright_size(image, image.getexif().get(0x0112, 1) if early else 1)
    except UnknownFormatError:
        if not deep.is_tiff(file):
            raise
        with deep.tiff_pages(file, max_pixels) as pages:
            turned = deep.orientation(pages[0]) >= 5
            size = pages[0].imagelength, pages[0].imagewidth
            return size[::-1] if turned else size


def _read_with_pillow(file: str | os.PathLike | BinaryIO, max_pixels: int, first_frame: bool) -> Picture:
    with open_picture(file, max_pixels) as image:
        available = _frame_count(image)
        start = 1 if image.info.get("default_image") and available > 1 else 0  # not a part of the animation
        count = start + 1 if first_frame else available
        check_pixels(image.width * image.height * count, max_pixels)
        deep_file = _has_deep_page(image, count) if image.format == "TIFF" else is_deep(image)
        if deep_file and image.format == "PNG" and available == 1:
            return Picture((deep.png_pixels(file, image.getexif().get(0x0112, 1)),), **_metadata(image))
        if deep_file and image.format == "TIFF":
            frames = deep.tiff_frames(file, max_pixels, functools.partial(_page, image), first_frame)
            image.seek(0)
            return Picture(frames, **_metadata(image))
        frames, durations, pixels = [], [], 0
        for index in range(start, count):
            image.seek(index)
            pixels += image.width * image.height
            check_pixels(pixels, max_pixels)
            frames.append(_pixels(image))
            durations.append(max(0, int(image.info.get("duration") or 0)))
        about = _metadata(image)  # now: before, it would take the orientation away
        if image.mode not in ("RGB", "RGBA", "RGBX", "L", "LA", "1", "P") and image.mode[0] != "I":
            about["icc"] = None  # it was used up by the conversion
        if available > 1 and image.format in ANIMATED:
            once = 1 if image.format == "GIF" else None  # a GIF that doesn't say is played once
            about |= {"durations_ms": tuple(durations), "loop": image.info.get("loop", once)}
            about["notes"] = (f"animated {image.format} of 16 bits: read with 8",) if deep_file else ()
            return Picture(_alike(frames), **about)
        return Picture(deep.of_one_depth(frames), **about)


def _frame_count(image: Image.Image) -> int:
    if image.format not in (*ANIMATED, "TIFF"):
        return 1
    count = getattr(image, "n_frames", 1)
    if count > deep.MAX_FRAMES:
        raise ImageError(f"{count} frames, more than the limit of {deep.MAX_FRAMES}")
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


def _has_deep_page(image: Image.Image, count: int) -> bool:
    """Whether one of a TIFF's pages is deep, or of a kind that Pillow doesn't know."""
    for index in range(count):
        try:
            image.seek(index)
        except Exception:  # Pillow's plug-ins raise nearly everything
            return True
        if is_deep(image):
            return True
    return False


def is_deep(image: Image.Image) -> bool:
    """Whether Pillow would cut the samples to 8 bits, or misread them: it knows 16 bits for plain gray alone."""
    if image.format == "PNG":
        args = image.tile[0].args if image.tile else ""
        return "16" in str(args) and (image.mode[0] != "I" or "transparency" in image.info)
    if image.format == "TIFF":
        bits = image.tag_v2.get(258, (8,))
        bits = max(bits if isinstance(bits, tuple) else (bits,))
        plain = image.mode.startswith("I;16") and bits == 16 and image.tag_v2.get(262) == 1  # black is zero
        return bits > 8 and not plain
    return False


def _page(image: Image.Image, index: int) -> np.ndarray:
    image.seek(index)
    return _pixels(image)


def _pixels(image: Image.Image) -> np.ndarray:
    """The current frame as `[H, W, C]`, uint8, or uint16 where it has 16 bits."""
    image = ImageOps.exif_transpose(image)
    if image.mode[0] in "IF":
        samples = np.asarray(image)
        if image.mode == "I":  # 32 bits, as which 16-bit files are read now and then
            if samples.min() < 0 or samples.max() > 65535:
                raise ImageError(f"32-bit samples from {samples.min()} to {samples.max()}; expected 0 to 65535")
            samples = samples.astype(np.uint16)
        return deep.to_uint16(samples.astype(samples.dtype.newbyteorder("=")))[..., None]
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
