"""Prints the table of docs/weights.md: differences and times of models of other programs, here and in PyTorch.

    python scripts/community_table.py FOLDER

FOLDER holds generators and, for some of them, outputs that were computed elsewhere: NAME_golden.npy `[H, W, 3]` for
NAME.pth or NAME_f16.pth, for the input lr48.npy `[48, 48, 3]` uint8. The columns of PyTorch need spandrel, which has
the same networks as PyTorch modules; without it they stay empty. Times are medians of rounds in which each program runs
once, after a first run that compiles. They mean something only on a machine that does nothing else.
"""

import argparse
import contextlib
import importlib.util
import statistics
import sys
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

import srgan_jax
from srgan_jax import inference
from srgan_jax.weights import importers, safetensors_io

NONE = "-"
MARGIN_PX = 32  # by how much the image in tiles is larger than a tile
COLUMNS = (
    "file", "detected as", "parameters", "largest difference to the golden output", "tiles and the whole image differ",
    "seconds here", "PyTorch", "PyTorch, channels last",
)  # fmt: skip


def golden_of(path: Path) -> Path | None:
    """Returns the file with the output of a model that was computed elsewhere; None if there is none."""
    stem = path.name.partition(".")[0]
    candidates = [path.with_name(f"{name}_golden.npy") for name in (stem, stem.removesuffix("_f16"))]
    return next((file for file in candidates if file.is_file()), None)


def difference_to_golden(params: srgan_jax.Weights, path: Path, lr: np.ndarray) -> str:
    """Returns the largest absolute difference to the golden output, for values in [0, 1]."""
    golden = golden_of(path)
    if golden is None:
        return NONE
    with jax.default_matmul_precision("highest"):
        sr = srgan_jax.upscale(params, lr, clip=False)
    return f"{np.abs(np.asarray(sr) - np.load(golden)).max():.1e}"


def difference_of_tiles(params: srgan_jax.Weights, lr: np.ndarray) -> str:
    """Returns the largest difference of an image in several tiles to the whole image, and the halo of the tiles."""
    (halo, exact), period = inference.halo_px(params.architecture), inference.period_px(params.architecture)
    tile = inference.smallest_tile(halo, period)
    image = reflected(lr, tile + MARGIN_PX)
    whole = np.asarray(srgan_jax.upscale(params, image))
    tiled = srgan_jax.upscale_tiled(params, image, tile_px=(tile, tile))
    return f"{np.abs(tiled - whole).max():.1e}, halo {halo} px{'' if exact else ' of a larger receptive field'}"


def reflected(lr: np.ndarray, side: int) -> np.ndarray:
    """Returns a square image of this side, of `lr [h, w, 3]` and its reflections."""
    return np.pad(lr, ((0, max(0, side - lr.shape[0])), (0, max(0, side - lr.shape[1])), (0, 0)), mode="symmetric")[
        :side, :side
    ]


def import_spandrel() -> Any | None:
    """Returns spandrel; None if it or PyTorch can't be imported. A missing torchvision is replaced by an empty one."""
    try:
        if "torchvision" not in sys.modules and importlib.util.find_spec("torchvision") is None:
            functional = types.ModuleType("torchvision.transforms.functional")
            for name in ("InterpolationMode", "rotate", "normalize"):  # of architectures that aren't in the table
                setattr(functional, name, None)
            sys.modules |= {functional.__name__: functional}
            sys.modules |= {name: types.ModuleType(name) for name in ("torchvision", "torchvision.transforms")}
        return importlib.import_module("spandrel")
    except ImportError:
        return None


@contextlib.contextmanager
def buffers_may_be_missing(module: Any) -> Iterator[None]:
    """Lets PyTorch's modules load state dicts without buffers, such as attention masks, which they have computed."""
    load = module.load_state_dict

    def load_parameters(self: Any, state: Any, strict: bool = True, **options: Any) -> Any:
        parameters = dict(self.named_parameters())
        absent = {name: value for name, value in self.state_dict().items() if name not in parameters | dict(state)}
        return load(self, dict(state) | absent, strict=strict, **options)

    module.load_state_dict = load_parameters
    try:
        yield
    finally:
        module.load_state_dict = load


def in_pytorch(path: Path, image: np.ndarray) -> dict[str, Callable[[], Any]]:
    """Returns functions that upscale `image` by spandrel's module, by column; {} where spandrel can't read the file."""
    spandrel = import_spandrel()
    if spandrel is None:
        return {}
    torch = importlib.import_module("torch")
    try:
        with buffers_may_be_missing(torch.nn.Module):
            network = spandrel.ModelLoader("cpu").load_from_file(path).model.float().eval()
    except Exception as error:  # spandrel raises many types
        print(f"{path.name}: spandrel: {error}", file=sys.stderr)
        return {}
    lr = torch.from_numpy(image.transpose(2, 0, 1).copy())[None]

    def run(memory_format: Any) -> Callable[[], Any]:
        def upscale() -> Any:
            with torch.inference_mode():
                return network.to(memory_format=memory_format)(lr.contiguous(memory_format=memory_format))

        return upscale

    return {"PyTorch": run(torch.contiguous_format), "PyTorch, channels last": run(torch.channels_last)}


def seconds(programs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, str]:
    """Returns the median time of each program, of rounds in which each runs once."""
    times: dict[str, list[float]] = {name: [] for name in programs}
    for round_ in range(rounds + 1):  # the first one compiles
        for name, program in programs.items():
            start = time.perf_counter()
            program()
            times[name] += [time.perf_counter() - start] if round_ else []
    return {name: f"{statistics.median(values):.3f}" for name, values in times.items()}


def row(path: Path, lr: np.ndarray, size: int, rounds: int) -> list[str]:
    """Returns the cells of a file."""
    imported, provenance = importers.import_with_provenance(path)
    params = srgan_jax.load(path)
    image = reflected(lr, size)
    programs = {"here": lambda: jax.block_until_ready(srgan_jax.upscale(params, image))}
    timed = seconds(programs | in_pytorch(path, image), rounds)
    return [
        f"`{path.name}`", provenance["source"], f"{imported.parameter_count():,}",
        difference_to_golden(params, path, lr), difference_of_tiles(params, lr),
        *(timed.get(name, NONE) for name in ("here", "PyTorch", "PyTorch, channels last")),
    ]  # fmt: skip


def main(arguments: list[str] | None = None) -> None:
    """Prints the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with files of other programs, and their golden outputs")
    parser.add_argument("--size", type=int, default=128, metavar="PX", help="side of the timed LR image (default: 128)")
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="timed runs of each program (default: 7)")
    args = parser.parse_args(arguments)
    files = sorted(path for path in args.folder.iterdir() if path.name.endswith(safetensors_io.SUFFIXES))
    if not files:
        sys.exit(f"error: no files in {args.folder}; expected {', '.join(safetensors_io.SUFFIXES)}")
    lr = np.load(args.folder / "lr48.npy").astype(np.float32) / 255
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    for path in files:
        print(f"| {' | '.join(row(path, lr, args.size, args.rounds))} |", flush=True)


if __name__ == "__main__":
    main()
