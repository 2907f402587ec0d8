"""The colour space of an image: what files state about it, ICC profiles of it, and conversion to sRGB.

`fit_color.py` decides how another format states it.
"""

import struct
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np

PQ, HLG = 16, 18
HDR = {PQ: "PQ", HLG: "HLG"}
SRGB_CODES = ((1, 13), (2, 2), (1, 2), (2, 13))  # 2: unspecified
D65, DCI, C, E = (0.3127, 0.329), (0.314, 0.351), (0.31, 0.316), (1 / 3, 1 / 3)
BT709 = (*D65, 0.64, 0.33, 0.30, 0.60, 0.15, 0.06)
BT601 = (*D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07)
PRIMARIES = {  # ITU-T H.273, table 2: x and y of white, red, green and blue
    1: BT709,
    2: BT709,  # unspecified
    4: (*C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*D65, 0.64, 0.33, 0.29, 0.60, 0.15, 0.06),
    6: BT601,
    7: BT601,
    8: (*C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: (*D65, 0.708, 0.292, 0.170, 0.797, 0.131, 0.046),
    10: (*E, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
    11: (*DCI, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    12: (*D65, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060),
    22: (*D65, 0.630, 0.340, 0.295, 0.605, 0.155, 0.077),
}
ALPHA_BT709, BETA_BT709 = 1.09929682680944, 0.018053968510807


def _bt709(encoded: np.ndarray) -> np.ndarray:
    above = ((encoded + ALPHA_BT709 - 1) / ALPHA_BT709) ** (1 / 0.45)
    return np.where(encoded < 4.5 * BETA_BT709, encoded / 4.5, above)


def _srgb(encoded: np.ndarray) -> np.ndarray:
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


LINEAR_LIGHT: dict[int, Callable[[np.ndarray], np.ndarray]] = {  # H.273, table 3: encoded value -> light, in [0, 1]
    1: _bt709,
    2: _srgb,
    4: lambda encoded: encoded**2.2,
    5: lambda encoded: encoded**2.8,
    6: _bt709,
    8: lambda encoded: encoded,
    13: _srgb,
    14: _bt709,
    15: _bt709,
    17: lambda encoded: encoded**2.6 * 52.37 / 48,
}


class ColorSpace(NamedTuple):
    """What a file states about its colours without an ICC profile.

    Attributes:
      codes: primaries and transfer, ITU-T H.273.
      gamma: exponent of the encoding, PNG's gAMA: 0.45455 for 1 / 2.2.
      chromaticities: x and y of white, red, green and blue, PNG's cHRM.
      narrow: 8-bit samples range from 16 to 235.
      chunks: the statement as chunks of a PNG (kind and data), where it comes from one.
    """

    codes: tuple[int, int] | None = None
    gamma: float | None = None
    chromaticities: tuple[float, ...] | None = None
    narrow: bool = False
    chunks: tuple[tuple[bytes, bytes], ...] = ()

    @property
    def hdr(self) -> str:
        """ "PQ" or "HLG"; "" for other transfers."""
        return HDR.get(self.codes[1], "") if self.codes else ""

    @property
    def name(self) -> str:
        """A short description, for messages."""
        codes = f"primaries {self.codes[0]}, transfer {self.codes[1]} of H.273" if self.codes else "gAMA, cHRM"
        return f"HDR, {self.hdr}" if self.hdr else codes + ", narrow range" * self.narrow

    @property
    def is_srgb(self) -> bool:
        """Whether programs show the colours as those of a file that states nothing."""
        if self.codes:
            return self.codes in SRGB_CODES and not self.narrow
        same = self.chromaticities is None or np.allclose(self.chromaticities, BT709, atol=2e-3)
        return bool(same and (self.gamma is None or abs(self.gamma - 1 / 2.2) < 1e-3))


def from_codes(primaries: int, transfer: int) -> ColorSpace | None:
    """Returns the colour space of code points of H.273; None for sRGB, for "unspecified" and for damaged codes."""
    if max(primaries, transfer) > 255:
        return None
    space = ColorSpace(codes=(primaries, transfer))
    return None if space.is_srgb else space


def from_png(chunks: Iterable[tuple[bytes, bytes]]) -> ColorSpace | None:
    """Returns what the chunks of a PNG state; cICP has precedence, then sRGB (Third Edition, section 4.3)."""
    found = {kind: data for kind, data in chunks if kind in (b"cICP", b"sRGB", b"gAMA", b"cHRM", b"mDCV", b"cLLI")}
    if not found:
        return None
    space = ColorSpace(chunks=tuple(found.items()))
    if len(found.get(b"cICP", b"")) == 4:
        primaries, transfer, _matrix, full = found[b"cICP"]
        return space._replace(codes=(primaries, transfer), narrow=not full)
    if b"sRGB" in found:
        return space
    if len(found.get(b"gAMA", b"")) == 4:
        space = space._replace(gamma=struct.unpack(">I", found[b"gAMA"])[0] / 1e5 or None)
    if len(found.get(b"cHRM", b"")) == 32:
        space = space._replace(chromaticities=tuple(value / 1e5 for value in struct.unpack(">8I", found[b"cHRM"])))
    return space


ADOBE_RGB = from_png(  # 1998: gamma 563 / 256
    (
        (b"gAMA", struct.pack(">I", round(1e5 * 256 / 563))),
        (b"cHRM", struct.pack(">8I", 31270, 32900, 64000, 33000, 21000, 71000, 15000, 6000)),
    )
)


def to_png(space: ColorSpace) -> Iterator[tuple[bytes, bytes]]:
    """Yields the chunks by which a PNG states a colour space."""
    if space.chunks:
        yield from space.chunks
    elif space.codes:
        yield b"cICP", bytes((*space.codes, 0, 1))


def profile(space: ColorSpace, *, gray: bool) -> bytes | None:
    """Returns an ICC profile of a colour space; None for HDR, and for codes that H.273 doesn't define."""
    from imagecodecs import cms_profile

    if space.hdr or space.narrow:
        return None
    chromaticities, gamma, curve = space.chromaticities or BT709, 1 / (space.gamma or 1 / 2.2), None
    if space.codes:
        if space.codes[0] not in PRIMARIES or space.codes[1] not in LINEAR_LIGHT:
            return None
        chromaticities = PRIMARIES[space.codes[0]]
        light = LINEAR_LIGHT[space.codes[1]](np.linspace(0, 1, 1024))
        gamma, curve = None, np.floor(np.clip(light, 0, 1) * 65535 + 0.5).astype(np.uint16)
    white, *colours = [(*chromaticities[start : start + 2], 1.0) for start in (0, 2, 4, 6)]
    primaries = None if gray else [value for colour in colours for value in colour]
    kind = "gray" if gray else "rgb"
    options = {"whitepoint": list(white), "primaries": primaries, "gamma": gamma, "transferfunction": curve}
    made = bytearray(cms_profile(kind, **options))
    made[24:36] = struct.pack(">6H", 2024, 1, 1, 0, 0, 0)  # the date: equal inputs give equal files
    return bytes(made)


def to_srgb(frame: np.ndarray, icc: bytes) -> np.ndarray:
    """Returns `[H, W, C]` uint8 or uint16 with its colours converted from the profile to sRGB; alpha is kept.

    Raises:
      ValueError: the profile is damaged, or is not one of gray or RGB images as this one is.
    """
    from imagecodecs import cms_profile, cms_transform

    channels = frame.shape[-1] - (frame.shape[-1] in (2, 4))
    source = "gray" if channels == 1 else "rgb"
    samples = np.ascontiguousarray(frame[..., 0] if channels == 1 else frame[..., :channels])
    try:
        srgb = cms_profile("srgb")
        converted = cms_transform(
            samples, icc, srgb, colorspace=source, outcolorspace="rgb", planar=False, outplanar=False
        )
    except Exception as error:  # imagecodecs raises exceptions of several types
        raise ValueError(f"the colour profile doesn't fit: {error}") from None
    return np.concatenate([converted[..., :channels], frame[..., channels:]], axis=-1)


def differs_from_srgb(icc: bytes, *, gray: bool) -> bool:
    """Returns whether the conversion from this profile to sRGB changes colours by more than 2 of 255.

    Raises:
      ValueError: see `to_srgb`.
    """
    steps = np.linspace(0, 255, 6).astype(np.uint8)
    grid = steps[None, :, None] if gray else np.stack(np.meshgrid(steps, steps, steps), -1).reshape(1, -1, 3)
    return bool(np.abs(to_srgb(grid, icc).astype(int) - grid).max() > 2)
