"""Images and weights from stdin, and images to stdout: `-` instead of a file name."""

import contextlib
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from srgan_jax.runtime.errors import UserError

STREAM = "-"
EXTENSIONS = {"JPEG": "jpg", "TIFF": "tif", "JPEG2000": "jp2", "RAW": "dng"}  # others: the name of the format


@contextlib.contextmanager
def as_files(args) -> Iterator[None]:
    """Replaces `-` in the inputs, in `--weights` and in `--out` by temporary files; copies the result to stdout.

    Sets `args.to_stdout`. If the result goes to stdout, all messages go to stderr.

    Raises:
      UserError: stdin is named twice, or the results of several files would go to stdout.
    """
    weights = args.weights or []
    if (STREAM in args.inputs) + weights.count(STREAM) > 1 or (STREAM in args.inputs and len(args.inputs) > 1):
        raise UserError("- (stdin) holds one file: expected it once, as the only image or as --weights")
    if args.inputs == [STREAM] and not args.out:
        args.out = STREAM
    args.to_stdout = to_stdout = args.out == STREAM
    if to_stdout and len(args.inputs) > 1:
        raise UserError(f"-o - is for one image, got {len(args.inputs)}")
    if not to_stdout and STREAM not in (*args.inputs, *weights):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="srgan_jax-") as name:
        folder = Path(name)
        if args.inputs == [STREAM]:
            args.inputs = [str(_named_by_format(_read_stdin(folder / "stdin")))]
        args.weights = [_weights_file(folder) if path == STREAM else path for path in weights] or None
        if not to_stdout:
            yield
            return
        args.out = str(folder / "out")
        with contextlib.redirect_stdout(sys.stderr):
            yield
        for path in sorted((folder / "out").glob("[!.]*")):
            with open(path, "rb") as result:
                shutil.copyfileobj(result, sys.stdout.buffer)
        sys.stdout.buffer.flush()


def _read_stdin(path: Path) -> Path:
    if sys.stdin is None or sys.stdin.isatty():
        raise UserError("- reads a file from stdin: srgan-jax upscale - < photo.jpg > larger.jpg")
    with open(path, "wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    return path


def _named_by_format(path: Path) -> Path:
    """Renames a file to have the suffix of its format."""
    from srgan_jax import images

    try:
        name = images.kind_of_path(path).name
    except images.ImageError:
        name = "bin"  # reading it fails later, with a reason
    return path.rename(path.with_suffix(f".{EXTENSIONS.get(name, name).lower()}"))


def _weights_file(folder: Path) -> str:
    return str(_read_stdin(folder / "stdin.pth"))  # the content tells whether it is a .safetensors
