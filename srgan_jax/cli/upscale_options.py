"""The options of `srgan-jax upscale`, as a table.

An option whose `dest` is a field of `bulk.Options` or an argument of `bulk.target_size` sets that field or argument.
"""

import argparse
from typing import Any, NamedTuple


class Option(NamedTuple):
    """The names of an option, and the arguments of `add_argument`."""

    names: tuple[str, ...]
    arguments: dict[str, Any]


class Refuse(argparse.Action):
    """An option of another program, whose error message (`const`) says what to type instead."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Ends with a usage error."""
        parser.error(f"{option_string}: {self.const}")


def _side(text: str) -> int | None:
    """Returns the side of a tile; None for 0, which realesrgan-ncnn-vulkan calls automatic."""
    return int(text) or None


def _threads(text: str) -> int:
    """Returns the number of threads; the largest of load:process:save, the form of realesrgan-ncnn-vulkan."""
    return max(map(int, text.split(":")))


_side.__name__ = _threads.__name__ = "int"  # for the messages of argparse
SWITCH = {"action": "store_true"}
OPTIONS = (
    Option(("-i",), {"dest": "more_inputs", "action": "append", "default": [], "metavar": "IN", "help": "another IN"}),
    Option(
        ("-o", "--out"),
        {
            "metavar": "OUT",
            "help": "output folder, or output file for a single image, or - for stdout (default: IN_x4 beside IN)",
        },
    ),
    Option(
        ("-n", "--weights"),
        {
            "nargs": "+",
            "metavar": "W",
            "help": "shipped name (default: photo_x4), .safetensors or .pth file, run folder or checkpoint, "
            "hf://owner/name, or - for a file on stdin; several are applied one after another, such as a cleanup of "
            "scale 1, then a generator of scale 4",
        },
    ),
    Option(("--list-weights",), {**SWITCH, "help": "print the purpose of each shipped generator and exit"}),
    Option(
        ("--blend",),
        {
            "nargs": 3,
            "metavar": ("A", "B", "FRACTION"),
            "help": "interpolate the weights A and B; fraction 0 gives A, 1 gives B",
        },
    ),
    Option(
        ("--strength",),
        {
            "type": float,
            "metavar": "S",
            "help": "strength of a GAN's texture: interpolates between the generator's PSNR partner (0) and the "
            "generator (1, default)",
        },
    ),
    Option(
        ("-s", "--scale"),
        {
            "type": float,
            "help": "upscaling factor, any positive number (default: the generator's); for at least twice the "
            "generator's, the network is applied again",
        },
    ),
    Option(("--width",), {"type": int, "metavar": "PX", "help": "width of the result, instead of --scale"}),
    Option(("--height",), {"type": int, "metavar": "PX", "help": "height of the result, instead of --scale"}),
    Option(("--long-side",), {"type": int, "metavar": "PX", "help": "longer side of the result, instead of --scale"}),
    Option(("--short-side",), {"type": int, "metavar": "PX", "help": "shorter side of the result, instead of --scale"}),
    Option(
        ("--fit",),
        {"metavar": "WxH", "help": "size of the result, such as 3840x2160; what is outside it is cut off"},
    ),
    Option(("--pad",), {**SWITCH, "help": "with --fit: keep the whole image and add borders"}),
    Option(
        ("-f", "--format"),
        {"default": "", "help": "output format: png, jpg, webp, tif, ... (default: that of the input)"},
    ),
    Option(
        ("--quality",),
        {
            "type": int,
            "default": 95,
            "help": "quality of JPEG, AVIF, WebP and JPEG XL (100: lossless; default: 95)",
        },
    ),
    Option(
        ("--suffix",),
        {"default": "", "help": "appended to the file name before the extension, for instance _x4"},
    ),
    Option(("--overwrite",), {**SWITCH, "help": "replace existing files"}),
    Option(("--dry-run",), {**SWITCH, "help": "print what would be done, and write nothing"}),
    Option(("--strip",), {**SWITCH, "help": "drop all metadata, and convert colours to sRGB"}),
    Option(("--drop-opaque-alpha",), {**SWITCH, "help": "drop alpha channels that are fully opaque"}),
    Option(
        ("-x", "--ensemble"),
        {**SWITCH, "dest": "self_ensemble", "help": "average over flips and rotations: better, 8 times slower"},
    ),
    Option(
        ("-j", "--jobs"),
        {
            "dest": "threads",
            "type": _threads,
            "default": 2,
            "metavar": "N",
            "help": "files that are decoded, and results that are encoded, at the same time (default: 2)",
        },
    ),
    Option(
        ("-t", "--tile"),
        {
            "dest": "tile_px",
            "type": _side,
            "metavar": "PX",
            "help": "side of a tile in input pixels (default, and 0: chosen from free memory)",
        },
    ),
    Option(
        ("--max-pixels",),
        {"type": float, "default": 256, "metavar": "MP", "help": "megapixels of the largest input (default: 256)"},
    ),
    Option(
        ("--max-seconds",),
        {
            "type": float,
            "default": 45,
            "metavar": "S",
            "help": "longest processor time, in seconds, for decoding a file, or a frame of a video (default: 45)",
        },
    ),
    Option(
        ("--codec",),
        {"metavar": "NAME", "help": "for videos: FFmpeg's encoder, such as libx265 (default: libx264; WebM: VP9)"},
    ),
    Option(
        ("--crf",),
        {"type": int, "default": 18, "metavar": "N", "help": "for videos: quality, smaller is better (default: 18)"},
    ),
    Option(("--salvage",), {**SWITCH, "help": "keep what can be read of damaged and truncated files"}),
    Option(
        ("-m",),
        {
            "action": Refuse,
            "const": "models are files in this program: --weights FOLDER/NAME.pth, or a name of --list-weights",
            "help": argparse.SUPPRESS,
        },
    ),
    Option(
        ("-g",),
        {
            "action": Refuse,
            "const": "all GPUs are used; CUDA_VISIBLE_DEVICES=0 selects one, JAX_PLATFORMS=cpu the CPU",
            "help": argparse.SUPPRESS,
        },
    ),
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the inputs and all options of the table."""
    parser.add_argument(
        "inputs", nargs="*", metavar="IN", help="images, folders that are searched recursively, or - for stdin"
    )
    for option in OPTIONS:
        parser.add_argument(*option.names, **option.arguments)
