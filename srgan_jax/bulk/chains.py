"""The chains of generators for a run, and the lines for the user about sizes, times and seams."""

import collections
import math
from collections.abc import Callable, Sequence

from srgan_jax import inference
from srgan_jax.bulk.jobs import Job
from srgan_jax.bulk.sizes import SizeOf
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import Weights

LARGE_PIXELS = 100_000_000  # results with more pixels are reported first, with size and estimated time


def make_tiler(
    params: Weights,
    sizes: Sequence[tuple[int, int]],
    *,
    tile_px: int | None = None,
    self_ensemble: bool = False,
    report: Callable[[str], None] = print,
) -> inference.Tiler:
    """Returns a `Tiler` for images of these sizes.

    Args:
      params: the generator.
      sizes: heights and widths of the inputs.
      tile_px: side of the tiles in LR pixels; None chooses it by the free memory.
      self_ensemble: whether images will be flipped and rotated; tiles are then square.
      report: gets lines for the user.

    Raises:
      UserError: `tile_px` is too small for the generator.
    """
    (halo, _), period = inference.halo_px(params.architecture), inference.period_px(params.architecture)
    if tile_px and tile_px < (smallest := inference.smallest_tile(halo, period)):
        raise UserError(
            f"--tile {tile_px}: expected {smallest} or more, because this generator needs a halo of {halo} px"
        )
    chosen = (tile_px, tile_px) if tile_px else None
    chosen = chosen or inference.choose_tile(sizes, halo, inference.max_area(params), self_ensemble, period)
    return inference.Tiler(params, chosen, report=report)


def make_chain(
    generators: Sequence[Weights],
    sizes: Sequence[tuple[int, int]],
    *,
    tile_px: int | None,
    self_ensemble: bool,
    report: Callable[[str], None],
) -> inference.Chain:
    """Returns the chain of these generators, for images of these sizes; see `make_tiler`."""
    tilers = []
    for params in generators:
        options = {"tile_px": tile_px, "self_ensemble": self_ensemble, "report": report}
        tilers.append(make_tiler(params, sizes, **options))
        sizes = [(params.scale * height, params.scale * width) for height, width in sizes]
    return inference.Chain(tilers, ensemble=self_ensemble)


def _report_large(
    chain: inference.Chain, planned: dict[Job, tuple[int, int]], size_of: SizeOf, report: Callable
) -> None:
    """Reports size and estimated time of each result with more than 100 megapixels."""
    large = {job: size for job, size in planned.items() if math.prod(size_of(*size)) > LARGE_PIXELS}
    for job, size in large.items():
        height, width = size_of(*size)
        report(f"{job.source}: {width} x {height} pixels, {height * width * 3 / 1e9:.1f} GB before compression, "
            f"about {chain.seconds(size) / 60:.0f} min")  # fmt: skip


def group_by_passes(planned: dict[Job, tuple[int, int]], size_of: SizeOf) -> dict[int, dict[Job, tuple[int, int]]]:
    """Returns the jobs by the number of times that the network is applied."""
    groups: dict[int, dict[Job, tuple[int, int]]] = collections.defaultdict(dict)
    for job, size in planned.items():
        groups[size_of.passes(*size)][job] = size
    return groups


def repeat_generators(generators: Sequence[Weights], passes: int) -> list[Weights]:
    """Returns the generators, followed by those that enlarge once more for each further pass."""
    return [*generators, *(passes - 1) * [params for params in generators if params.scale > 1]]


def report_sizes(
    chain: inference.Chain, planned: dict[Job, tuple[int, int]], passes: int, size_of: SizeOf, report: Callable
) -> None:
    """Reports how the size is reached where the network alone doesn't give it, and large results."""
    resized = {job for job, (h, w) in planned.items() if size_of.resized(h, w) != (chain.scale * h, chain.scale * w)}
    if resized or passes > 1:
        times = {1: "once", 2: "twice"}.get(passes, f"{passes} times")
        bicubic = ", then bicubic interpolation to the requested size" if resized else ""
        count = f"{len(planned)} images" if len(planned) > 1 else str(next(iter(planned)).source)
        report(f"{count}: the network is applied {times} (x{chain.scale}){bicubic}")
    _report_large(chain, planned, size_of, report)


def report_seams(chain: inference.Chain, report: Callable[[str], None]) -> None:
    """Reports the halo and the difference at seams for each generator whose receptive field exceeds its halo."""
    for tiler in chain.tilers:
        if tiler.seam_difference is not None:
            report(
                f"the receptive field of {tiler.name} exceeds the halo of {tiler.halo_px} px around its tiles: "
                f"neighbouring tiles differed by at most {tiler.seam_difference:.2g} at their seams (values are 0 to "
                "1); between seams they may differ from the whole image by a few times as much"
            )
