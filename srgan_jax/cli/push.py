"""`srgan-jax push`: publishes a generator on the Hugging Face Hub, with a model card."""

import argparse
import contextlib
import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from srgan_jax.cli.arguments import add_moment, at_moment
from srgan_jax.runtime.errors import MissingFileError, UserError

if TYPE_CHECKING:
    import numpy as np

    from srgan_jax.weights import Weights


def _partner(path: str, header: dict[str, str]) -> "Weights | None":
    """Returns the PSNR partner of a generator; None if it has none, or if the partner is shipped with the package."""
    from srgan_jax import weights
    from srgan_jax.weights import pretrained
    from srgan_jax.weights.storage import find_partner

    name = header.get("partner", "")
    if not name or name in pretrained.names():
        return None
    try:
        return weights.load(find_partner(path, name), fold=False)
    except MissingFileError:
        del header["partner"]
        print(f"WARNING: {name}, the PSNR partner, doesn't exist: --strength won't work", file=sys.stderr)
        return None


def _photo(path: str | None, channels: int) -> "np.ndarray | None":
    """Returns the image `[H, W, 3]` uint8 that the card shows before and after upscaling, or None."""
    from srgan_jax import images

    if channels != 3:
        return None
    if path:
        return images.read_rgb(path)
    if importlib.util.find_spec("skimage") is None:
        print("the model card has no image; --image PHOTO adds one", file=sys.stderr)
        return None
    import numpy as np
    import skimage.data

    from srgan_jax.ops import color, resize

    halved = resize.downscale(color.from_integers(skimage.data.chelsea()[:, :448]), 2)  # CC0
    return np.asarray(color.to_uint8(halved))


@contextlib.contextmanager
def _folder(out: str | None) -> Iterator[Path]:
    """Yields the folder `out`, or a temporary one."""
    if out:
        yield Path(out)
        return
    with tempfile.TemporaryDirectory() as temporary:
        yield Path(temporary)


def push(args: argparse.Namespace) -> int:
    """Uploads a generator with its model card, or writes both to a folder; prints the files and the address."""
    from srgan_jax import weights
    from srgan_jax.export import model_card
    from srgan_jax.models import channels_of
    from srgan_jax.runtime import devices
    from srgan_jax.weights import hub

    devices.check_platform()
    hub.check_repository(args.repository)
    if not args.out:
        hub.check_login()
    if args.out and Path(args.out).exists() and any(Path(args.out).iterdir()):
        raise UserError(f"{args.out} isn't empty; choose another --out")
    path = at_moment(args.weights, args)
    params, header = weights.load_with_provenance(path)
    if args.licence:
        header["licence"] = args.licence
    if header.get("licence", "not stated") == "not stated":
        print("WARNING: no licence is stated, so others may not use the weights; add --licence ID", file=sys.stderr)
    photo, partner = _photo(args.image, channels_of(params.architecture)), _partner(path, header)
    with _folder(args.out) as folder:
        for file in model_card.write_folder(folder, params, header, args.repository, partner, photo):
            print(f"{file if args.out else file.name}: {file.stat().st_size / 1e6:.2f} MB")
        print(f"SHA-256 of the weights: {weights.digest(folder / hub.GENERATOR)}")
        if not args.out:
            print(f"pushed: {hub.push(folder, args.repository, private=args.private)}")
    return 0


def add_push(commands) -> None:
    """Adds `push` to the commands of the parser."""
    sub = commands.add_parser("push", help="publish a generator on the Hugging Face Hub, with a model card")
    sub.add_argument("weights", metavar="W", help="shipped name, .safetensors or .pth file, run folder or checkpoint")
    sub.add_argument("repository", metavar="OWNER/NAME", help="repository on the Hub; created if it doesn't exist")
    add_moment(sub)
    sub.add_argument(
        "--licence", default="", metavar="ID", help="licence, such as cc-by-4.0 (default: that in the file)"
    )
    sub.add_argument("--image", metavar="PHOTO", help="photograph that the card shows before and after upscaling")
    sub.add_argument("--private", action="store_true", help="create the repository for yourself only")
    sub.add_argument("-o", "--out", metavar="DIR", help="write the files to this folder, and upload nothing")
    sub.set_defaults(run=push)
