"""Tests of small updates, compiled for H100s and TPUs that need not be there: SRResNet and SRGAN, and compact.

They are a tier of their own: bash scripts/test.sh --absent. Each number of kernels is what was counted when it was
written, plus a few for other versions of the compiler; larger ones mean that a change costs launches.
"""

import functools
import re
from typing import NamedTuple

import pytest

from srgan_jax.runtime.errors import UserError
from srgan_jax.training.planning import hlo, programs

pytestmark = [pytest.mark.absent, pytest.mark.timeout(1200)]
TILES = 256
SRGAN = (
    "--config.generator.blocks=1", "--config.discriminator.width=8", "--config.discriminator.dense=16",
    "--config.data.crop_px=32", "--config.stages.gan.losses.perceptual.weight=0",
    "--config.stages.gan.losses.pixel.weight=1",
)  # fmt: skip
COMPACT = ("--config.generator.blocks=4", "--config.generator.width=16", "--config.data.crop_px=64")


class Case(NamedTuple):
    """What is compiled for a topology, and for each stage the most kernels and collectives it may have."""

    config: str
    overrides: tuple[str, ...]
    kernels: dict[str, int]
    collectives: dict[str, int]


CASES = {
    "h100-4": Case("srgan", SRGAN, {"pretrain": 170, "gan": 570}, {"pretrain": 10, "gan": 45}),
    "v5e-4": Case("compact", COMPACT, {"pretrain": 560}, {"pretrain": 3}),
}
PROGRAMS = [(topology, stage) for topology, case in CASES.items() for stage in case.kernels]


@functools.cache
def _compile(topology):
    """Returns for each stage its program and what was counted in it; the reason why there is none, as a text."""
    case = CASES[topology]
    asked = programs.Request(topology, case.config, case.overrides, tuple(case.kernels), tiles=TILES)
    try:
        found = programs.compile_programs(asked)
    except UserError as error:
        if not re.search("pip install|needs jax", str(error)):
            raise
        return str(error)
    return {program.name: (program, hlo.count(program.hlo)) for program in found}


@pytest.fixture(scope="module", params=PROGRAMS, ids="-".join)
def compiled(request):
    """A topology, a stage, its program and what was counted in it."""
    topology, stage = request.param
    found = _compile(topology)
    if isinstance(found, str):
        pytest.skip(found)
    return topology, stage, *found[stage]


def test_tiles_are_not_copied(compiled):
    """Cutting a crop reads its rows, never the whole store: 256 tiles of 512 x 512 are 201 MB."""
    _, _, program, counts = compiled
    assert program.sizes["tiles"] >= TILES * 512 * 512 * 3
    assert counts.largest_copy < program.sizes["tiles"] / 10
    assert program.memory["temp"] < program.sizes["tiles"] / 2


def test_the_host_is_not_called(compiled):
    program = compiled[2]
    found = re.findall(r"custom_call_target=\"([^\"]*callback[^\"]*)\"|\b(outfeed|infeed|send|recv)\(", program.hlo)
    assert not found


def test_convolutions_are_in_bfloat16(compiled):
    """All operands of the networks' convolutions, forwards and backwards.

    Resizing, which asks for the highest precision, is in float32.
    """
    program = compiled[2]
    assert program.dtype == "bfloat16"
    computations, _ = hlo.parse(program.hlo)
    dtypes = []
    for operations in computations.values():
        for operation in operations.values():
            is_convolution = operation.opcode == "convolution" or "__cudnn$conv" in operation.attributes
            is_resizing = "operand_precision={highest" in operation.attributes
            if is_convolution and not is_resizing and "conv_general_dilated" in operation.attributes:
                named = (operations.get(name) for name in operation.operands[:2])
                dtypes += [found.results[0].dtype for found in named if found]
    assert len(dtypes) > 20 and set(dtypes) == {"bf16"}


def test_gradients_are_summed_in_float32(compiled):
    counts = compiled[3]
    reduced = {entry.dtype for entry in counts.collectives if entry.kind in ("all-reduce", "reduce-scatter")}
    assert reduced and not reduced & {"bf16", "f16"}, counts.collectives


def test_kernels_and_collectives_are_no_more_than_written_down(compiled):
    topology, stage, _, counts = compiled
    assert counts.kernels <= CASES[topology].kernels[stage]
    assert sum(entry.number for entry in counts.collectives) <= CASES[topology].collectives[stage]


@pytest.mark.parametrize("compiled", [("h100-4", "pretrain")], ids="-".join, indirect=True)
def test_the_last_convolution_comes_before_the_pixel_shuffle(compiled):
    """5x5 windows from 256 to 12 channels instead of 9x9 from 64 to 3."""
    _, _, program, _ = compiled
    shapes = re.findall(r"conv_out[^\n]*", program.hlo)
    assert any("5x5" in line for line in re.findall(r"[^\n]*conv_out[^\n]*", program.hlo)), shapes[:3]
