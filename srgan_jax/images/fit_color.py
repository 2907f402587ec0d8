"""How a format states the colour space of an image. Every decision about colour spaces is here.

An ICC profile is kept as it is. Other statements (PNG's gAMA, cHRM and cICP; nclx of AVIF and HEIC) are written back by
PNG and AVIF, and as an ICC profile by other formats. A format without profiles gets the colours converted to sRGB. HDR
(BT.2100 PQ and HLG) is kept by PNG and AVIF only.
"""

import dataclasses

from srgan_jax.images import color_space
from srgan_jax.images.picture import Picture, change_frames

RGB_ONLY = (".webp", ".avif")  # gray is stored as RGB, for which the profile of a gray image is not valid


def convert_to_srgb(picture: Picture) -> tuple[Picture, str]:
    """Returns the image without a colour profile, its colours converted to sRGB, and what was done; "" for nothing."""
    if not picture.icc:
        return picture, ""
    plain = dataclasses.replace(picture, icc=None)
    try:
        gray = all(shape[-1] < 3 for shape, _ in picture.layouts)
        if not color_space.differs_from_srgb(picture.icc, gray=gray):
            return plain, ""
        icc = picture.icc
        converted = change_frames(picture.frames, lambda frame: color_space.to_srgb(frame, icc))
    except ValueError as error:
        return plain, f"{error}: it is dropped"
    return dataclasses.replace(plain, frames=converted), "colours are converted to sRGB"


def fit(picture: Picture, suffix: str, *, profiles: bool) -> tuple[Picture, list[str]]:
    """Returns the image with its colour space as a format can state it, and a line for each change.

    Args:
      picture: the image.
      suffix: of the file to be written; `can_state` is true of it, or a line warns that colours will be wrong.
      profiles: whether the format holds ICC profiles.
    """
    space, notes = picture.color, []
    stated = space and (suffix == ".png" or (suffix == ".avif" and space.codes and not space.narrow))
    if stated and space and space.codes and suffix == ".avif":  # a profile in an AVIF would have precedence
        return dataclasses.replace(picture, icc=None), []
    if stated:
        return picture, []
    if space and not space.is_srgb and not (picture.icc and not space.codes):  # of PNG's gAMA and iCCP, iCCP counts
        gray = all(shape[-1] < 3 for shape, _ in picture.layouts) and suffix not in RGB_ONLY
        made = color_space.profile(space, gray=gray)
        picture = dataclasses.replace(picture, icc=made)
        if made and profiles:
            notes.append(f"the colour space is written as a colour profile, because {suffix} can't state it otherwise")
        if not made:
            notes.append(f"{suffix} can't state the colour space ({space.name}): it will be shown with wrong colours")
    picture = dataclasses.replace(picture, color=None)
    if picture.icc and not profiles:
        picture, change = convert_to_srgb(picture)
        notes += [f"{suffix} can't hold a colour profile: {change}"] * bool(change)
    if picture.icc and suffix in RGB_ONLY and picture.icc[16:20] == b"GRAY":
        picture, change = convert_to_srgb(picture)
        notes += [f"{suffix} can't hold the colour profile of a gray image: {change}"] * bool(change)
    return picture, notes


def can_state(space: color_space.ColorSpace | None, suffix: str) -> bool:
    """Returns whether a format can state this colour space, by itself or by a profile, or needs no statement."""
    if space is None or space.is_srgb or suffix == ".png":
        return True
    if suffix == ".avif" and space.codes and not space.narrow:
        return True
    return color_space.profile(space, gray=False) is not None
