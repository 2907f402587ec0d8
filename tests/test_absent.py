"""Tests of the updates of a small SRResNet and SRGAN, compiled for H100s that need not be there.

They are a tier of their own: bash scripts/test.sh --absent. Each number of kernels is what was counted when it was
written, plus a few for other versions of the compiler; larger ones mean that a change costs launches.
"""

import re

import pytest

from srgan_jax.runtime.errors import UserError
from srgan_jax.training.planning import hlo, programs

pytestmark = [pytest.mark.absent, pytest.mark.timeout(1200)]
BLOCKS = 1
OVERRIDES = (
    f"--config.generator.blocks={BLOCKS}", "--config.discriminator.width=8", "--config.discriminator.dense=16",
    "--config.data.crop_px=32", "--config.stages.gan.losses.perceptual.weight=0",
    "--config.stages.gan.losses.pixel.weight=1",
)  # fmt: skip
TILES = 256
STAGES = ("pretrain", "gan")
TOPOLOGIES = ("h100-4",)
KERNELS = {"h100-4": {"pretrain": 170, "gan": 570}}
COLLECTIVES = {"h100-4": {"pretrain": 10, "gan": 45}}


@pytest.fixture(scope="module", params=TOPOLOGIES)
def compiled(request):
    """The topology, and for each stage its program and what was counted in it."""
    asked = programs.Request(request.param, "srgan", OVERRIDES, tiles=TILES)
    try:
        found = programs.compile_programs(asked)
    except UserError as error:
        if not re.search("pip install|needs jax", str(error)):
            raise
        pytest.skip(str(error))
    return request.param, {program.name: (program, hlo.count(program.hlo, program.sizes["tiles"])) for program in found}


@pytest.mark.parametrize("stage", STAGES)
def test_tiles_are_not_copied(compiled, stage):
    """Cutting a crop reads its rows, never the whole store: 256 tiles of 512 x 512 are 201 MB."""
    program, counts = compiled[1][stage]
    assert program.sizes["tiles"] >= TILES * 512 * 512 * 3
    assert counts.largest_copy < program.sizes["tiles"] / 10
    assert program.memory["temp"] < program.sizes["tiles"] / 2


@pytest.mark.parametrize("stage", STAGES)
def test_the_host_is_not_called(compiled, stage):
    program, _ = compiled[1][stage]
    found = re.findall(r"custom_call_target=\"([^\"]*callback[^\"]*)\"|\b(outfeed|infeed|send|recv)\(", program.hlo)
    assert not found


@pytest.mark.parametrize("stage", STAGES)
def test_convolutions_are_in_bfloat16(compiled, stage):
    """All operands of both networks' convolutions, forwards and backwards."""
    program, _ = compiled[1][stage]
    assert program.dtype == "bfloat16"
    computations, _ = hlo.parse(program.hlo)
    dtypes = []
    for operations in computations.values():
        for operation in operations.values():
            is_convolution = operation.opcode == "convolution" or "__cudnn$conv" in operation.attributes
            if is_convolution and "conv_general_dilated" in operation.attributes:
                named = (operations.get(name) for name in operation.operands[:2])
                dtypes += [found.results[0].dtype for found in named if found]
    assert len(dtypes) > 20 and set(dtypes) == {"bf16"}


@pytest.mark.parametrize("stage", STAGES)
def test_gradients_are_summed_in_float32(compiled, stage):
    _, counts = compiled[1][stage]
    reduced = {entry.dtype for entry in counts.collectives if entry.kind in ("all-reduce", "reduce-scatter")}
    assert reduced and not reduced & {"bf16", "f16"}, counts.collectives


@pytest.mark.parametrize("stage", STAGES)
def test_kernels_and_collectives_are_no_more_than_written_down(compiled, stage):
    topology, (_, counts) = compiled[0], compiled[1][stage]
    assert counts.kernels <= KERNELS[topology][stage]
    assert sum(entry.number for entry in counts.collectives) <= COLLECTIVES[topology][stage]


def test_the_last_convolution_comes_before_the_pixel_shuffle(compiled):
    """5x5 windows from 256 to 12 channels instead of 9x9 from 64 to 3."""
    program, _ = compiled[1]["pretrain"]
    shapes = re.findall(r"conv_out[^\n]*", program.hlo)
    assert any("5x5" in line for line in re.findall(r"[^\n]*conv_out[^\n]*", program.hlo)), shapes[:3]
