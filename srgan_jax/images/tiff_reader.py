"""Reading of TIFF directories: which pages are images, what they ask for, and whether the file is camera raw."""

import contextlib
import itertools
import logging
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

import numpy as np
from PIL import Image

from srgan_jax.images.color_space import to_srgb
from srgan_jax.images.containers import tiff_tags
from srgan_jax.images.errors import ImageError, check_pixels, reason
from srgan_jax.images.files import is_open
from srgan_jax.images.high_bit_depth import exceeds_8_bits, tiff_pixels, to_uint8, unify_bit_depth
from srgan_jax.images.limits import check_bytes, check_frames
from srgan_jax.images.metadata import tiff_metadata
from srgan_jax.images.picture import Picture
from srgan_jax.images.pillow import UnknownFormatError, open_file, open_image
from srgan_jax.images.pixels import current_frame, fields_of

if TYPE_CHECKING:
    from tifffile import TiffFile, TiffPage

SUBFILE_TYPE, OLD_SUBFILE_TYPE, EXTRA_SAMPLES, DNG_VERSION = 254, 255, 338, 50706
REDUCED, MASK, OLD_REDUCED = 1, 4, 2  # bits of tag 254, value of tag 255
RAW_PHOTOMETRICS = (32803, 34892)  # colour filter array, linear raw
MASK_PHOTOMETRIC = 4
COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3, 8: 3, 9: 3, 10: 3}  # photometric interpretation -> samples of a colour
WEBP, SIGNED = 50001, 2  # compression that Pillow doesn't decode; sample format that it takes for unsigned
APPLIED = (5, 8, 9, 10)  # photometric interpretations (CMYK, Lab) whose profile is applied in reading
PAGE_TAGS = {270: "description", 282: "resolution", 315: "author", 306: "date", tiff_tags.XMP: "XMP"}
SUB_PAGES = 16  # directories of SubIFDs that are looked at

Pages = list[tuple[int | None, "TiffPage"]]  # number in the chain of pages, or None for a SubIFD

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # what it logs of damaged files isn't for users


class TiffContents(NamedTuple):
    """What a TIFF holds.

    Attributes:
      pages: the full-resolution images.
      raw: whether it is the raw image of a camera.
      notes: a message where directories that aren't pages are left out.
    """

    pages: "Pages"
    raw: bool
    notes: tuple[str, ...]


@contextlib.contextmanager
def tiff_contents(file: str | os.PathLike | BinaryIO, max_pixels: int) -> Iterator[TiffContents]:
    """Reads the directories of a TIFF, and checks what its pages ask for, before anything is decoded.

    Pages are what the tags call full-resolution images (TIFF 6.0, NewSubfileType); overviews, thumbnails and
    transparency masks are not pages.

    Raises:
      ImageError: damaged, or more pages, pixels, bands or bytes than are read.
    """
    from tifffile import TiffFile

    try:
        with contextlib.ExitStack() as stack:
            stream = file if is_open(file) else stack.enter_context(open_file(file))
            stream.seek(0)
            yield _inspect(stack.enter_context(TiffFile(stream)), max_pixels)
    except ImageError:
        raise
    except Exception as error:  # a damaged file
        raise ImageError(reason(error)) from None


def _inspect(tiff: "TiffFile", max_pixels: int) -> TiffContents:
    chain: Pages = []
    count, pixels, raw = 0, 0, False
    for count, page in enumerate(_pages(tiff.pages), start=1):
        check_frames(count)
        raw = raw or _is_raw(page)
        if _is_full(page):
            pixels += page.imagewidth * page.imagelength
            check_pixels(pixels, max_pixels)
            chain.append((count - 1, page))
    if not count:
        raise ImageError("TIFF without pages")
    if not chain:  # a thumbnail or overview in front of the image, which is in a SubIFD
        chain = [(None, page) for page in _sub_pages(tiff.pages[0]) if _is_full(page)]
    if not chain:  # thumbnails and overviews alone
        chain.extend(itertools.islice(((n, p) for n, p in enumerate(_pages(tiff.pages)) if not _is_mask(p)), 1))
    if not chain:
        raise ImageError("TIFF of transparency masks alone; expected an image")
    if not raw:
        check_pixels(sum(page.imagewidth * page.imagelength for _, page in chain), max_pixels)
        for _, page in chain:
            _check_page(page, max_pixels)
    left_out = count - sum(index is not None for index, _ in chain)
    notes = (f"left out: {left_out} of {count} directories, overviews, thumbnails or masks",) if left_out else ()
    return TiffContents(chain, raw, notes)


def _pages(pages: Any) -> Iterable["TiffPage"]:
    """Returns an iterator over pages, which reads one directory at a time."""
    return cast("Iterable[TiffPage]", iter(pages))  # tifffile gives TiffFrame on request only


def _sub_pages(page: Any) -> Iterator["TiffPage"]:
    """Yields the first pages of the SubIFDs of a page; none where they are damaged."""
    with contextlib.suppress(Exception):
        yield from itertools.islice(_pages(page.pages or ()), SUB_PAGES)


def _number(page: "TiffPage", tag: int) -> int:
    value = page.tags.valueof(tag, 0)
    return int(value) if isinstance(value, int) else 0


def _is_mask(page: "TiffPage") -> bool:
    return bool(_number(page, SUBFILE_TYPE) & MASK) or page.photometric == MASK_PHOTOMETRIC


def _is_full(page: "TiffPage") -> bool:
    """Returns whether the tags call a page an image of full resolution."""
    reduced = _number(page, SUBFILE_TYPE) & REDUCED or _number(page, OLD_SUBFILE_TYPE) == OLD_REDUCED
    return not reduced and not _is_mask(page)


def _is_raw(page: "TiffPage") -> bool:
    """Returns whether a page, or one of its SubIFDs, holds the samples of a camera's sensor."""
    return DNG_VERSION in page.tags or any(p.photometric in RAW_PHOTOMETRICS for p in (page, *_sub_pages(page)))


def _bits(page: "TiffPage") -> int:
    bits: Any = page.bitspersample  # a tuple where samples differ
    return max(bits) if isinstance(bits, tuple) else bits


def _check_page(page: "TiffPage", max_pixels: int) -> None:
    """Raises ImageError for more bytes than may be decoded."""
    sample_bytes = page.samplesperpixel * _bits(page) / 8
    check_bytes(page.imagewidth * page.imagelength * sample_bytes, max_pixels)
    check_bytes(page.tilewidth * page.tilelength * sample_bytes, max_pixels)


def _check_bands(page: "TiffPage") -> None:
    """Raises ImageError for bands that would be lost; `bands.decode_bands` reads them."""
    samples, colours = page.samplesperpixel, COLOURS.get(int(page.photometric), page.samplesperpixel)
    further, kinds = samples - colours, page.tags.valueof(EXTRA_SAMPLES, ())
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    alpha = further == 1 and colours < 4 and (not kinds or int(kinds[0]) in (1, 2))
    if further > 0 and not alpha:
        others = max(1, further - sum(int(kind) in (1, 2) for kind in kinds))
        raise ImageError(
            f"TIFF of {samples} bands, of which {others} {'is' if others == 1 else 'are'} neither colour nor alpha; "
            "expected gray or RGB, with or without alpha: split the bands into files first, for instance with "
            f"gdal_translate -b 1 IN OUT, or give --weights of a generator that was trained on {samples} bands"
        )


def deep_frame(page: "TiffPage") -> np.ndarray:
    """Returns a page that Pillow can't read as `[H, W, C]`, upright: uint8 for 8 bits, else uint16."""
    frame = tiff_pixels(page)
    return to_uint8(frame) if _bits(page) == 8 else frame


def read_tiff(
    file: str | os.PathLike | BinaryIO, contents: TiffContents, max_pixels: int, first_frame: bool, salvage: bool
) -> Picture:
    """Returns the pages of a TIFF, those of 8 bits by Pillow, which applies colour profiles."""
    pages = contents.pages[:1] if first_frame else contents.pages
    for _, page in pages:
        _check_bands(page)
    try:
        with open_image(file, max_pixels, salvage=salvage) as image:
            frames = [_tiff_frame(image, index, page) for index, page in pages]
            image.seek(pages[0][0] or 0)
            fields = fields_of(image, file)
    except UnknownFormatError:  # a kind of TIFF that Pillow can't read
        frames, fields = [deep_frame(page) for _, page in pages], tiff_metadata(file)
    frames, fields = _unify_colors(frames, [page for _, page in pages], fields)
    notes = (*fields["notes"], *contents.notes, *_differences([page for _, page in pages]))
    return Picture(unify_bit_depth(frames), **{**fields, "notes": notes})


def _unify_colors(
    frames: list[np.ndarray], pages: list["TiffPage"], fields: dict[str, Any]
) -> tuple[list[np.ndarray], dict[str, Any]]:
    """Returns the frames in sRGB, without a profile, where the pages have different ones; otherwise what is given."""
    profiles = [None if page.photometric in APPLIED else page.tags.valueof(tiff_tags.ICC) for page in pages]
    if len(set(profiles)) == 1:
        return frames, fields
    converted, note = [], "the pages have different colour profiles: colours are converted to sRGB"
    for frame, profile in zip(frames, profiles, strict=True):
        try:
            converted.append(to_srgb(frame, profile) if profile else frame)
        except ValueError:
            converted.append(frame)
            note += ", except where a profile doesn't fit"
    return converted, fields | {"icc": None, "color": None, "notes": (*fields["notes"], note)}


def _differences(pages: list["TiffPage"]) -> tuple[str, ...]:
    """Returns a message if the pages state different values of what is written alike for all of them."""

    def differ(tag: int) -> bool:
        return len({str(page.tags.valueof(tag)) for page in pages if tag in page.tags}) > 1

    names = ", ".join(name for tag, name in PAGE_TAGS.items() if differ(tag))
    return (f"the pages differ in {names}: that of the first is written for all",) if names else ()


def _tiff_frame(image: Image.Image, index: int | None, page: "TiffPage") -> np.ndarray:
    """Returns a page by Pillow, unless Pillow can't read it, or would truncate or misread its samples."""
    if index is None or page.compression == WEBP or page.sampleformat == SIGNED:
        return deep_frame(page)
    try:
        image.seek(index)
    except Exception:  # Pillow's plug-ins raise exceptions of many types
        return deep_frame(page)
    return deep_frame(page) if exceeds_8_bits(image) else current_frame(image)
