"""Tests of `srgan-jax plan`: names of topologies, counts in HLO, and the roofline against numbers by hand."""

import dataclasses
import json
import re
import subprocess
import sys
import time

import helpers
import jax
import jax.numpy as jnp
import numpy as np
import psutil
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import plan_table
from srgan_jax import cli
from srgan_jax.runtime import devices
from srgan_jax.runtime.errors import UserError
from srgan_jax.training.planning import hlo, roofline
from srgan_jax.training.planning.hardware import CARDS, HARDWARE, find_topology, target_config
from srgan_jax.training.planning.operations import count_operations
from srgan_jax.training.planning.programs import Program

# A TPU's program: a loop of 3 turns around a fusion, an all-reduce of 1000 numbers, and a copy from chip to memory.
HLO = """\
HloModule jit_update, is_scheduled=true

%fused (p.0: f32[16,64]) -> f32[16,64] {
  %p.0 = f32[16,64]{1,0:T(8,128)} parameter(0)
  ROOT %inner = f32[16,64]{1,0:T(8,128)} add(%p.0, %p.0)
}

%body (state: (s32[], f32[16,64])) -> (s32[], f32[16,64]) {
  %state = (s32[]{:T(128)}, f32[16,64]{1,0:T(8,128)}) parameter(0)
  %index = s32[]{:T(128)} get-tuple-element(%state), index=0
  %value = f32[16,64]{1,0:T(8,128)} get-tuple-element(%state), index=1
  %twice = f32[16,64]{1,0:T(8,128)} fusion(%value), kind=kLoop, calls=%fused, backend_config={"estimated_cycles":"200"}
  ROOT %next = (s32[]{:T(128)}, f32[16,64]{1,0:T(8,128)}) tuple(%index, %twice)
}

%condition (state.1: (s32[], f32[16,64])) -> pred[] {
  %state.1 = (s32[]{:T(128)}, f32[16,64]{1,0:T(8,128)}) parameter(0)
  %index.1 = s32[]{:T(128)} get-tuple-element(%state.1), index=0
  %turns = s32[]{:T(128)} constant(3)
  ROOT %less = pred[]{:T(512)} compare(%index.1, %turns), direction=LT
}

%sum (a: bf16[], b: bf16[]) -> bf16[] {
  %a = bf16[] parameter(0)
  %b = bf16[] parameter(1)
  ROOT %both = bf16[] add(%a, %b)
}

ENTRY %main (start: f32[16,64], gradient: bf16[1000]) -> (f32[16,64], bf16[1000]) {
  %start = f32[16,64]{1,0:T(8,128)} parameter(0)
  %gradient = bf16[1000]{0:T(1024)(128)(2,1)} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  %first = (s32[]{:T(128)}, f32[16,64]{1,0:T(8,128)}) tuple(%zero, %start)
  %loop = (s32[]{:T(128)}, /*index=1*/f32[16,64]{1,0:T(8,128)}) while(%first), condition=%condition, body=%body
  %result = f32[16,64]{1,0:T(8,128)} get-tuple-element(%loop), index=1
  %started = bf16[1000]{0:T(1024)(128)(2,1)} all-reduce-start(%gradient), replica_groups={{0,1,2,3}}, to_apply=%sum
  %reduced = bf16[1000]{0:T(1024)(128)(2,1)} all-reduce-done(%started)
  %near = bf16[1000]{0:T(1024)(128)(2,1)S(1)} copy(%reduced), backend_config={"estimated_cycles":"50"}
  %away = bf16[1000]{0:T(1024)(128)(2,1)} copy(%near), backend_config={"estimated_cycles":"9223372036854775807"}
  ROOT %out = (f32[16,64]{1,0:T(8,128)}, bf16[1000]{0:T(1024)(128)(2,1)}) tuple(%result, %away)
}
"""
SIZES = {"state": 2_000_000_000, "tiles": 0, "frozen": 0, "inputs": 64}
MEMORY = {"argument": 2_000_000_064, "output": 0, "alias": 0, "temp": 1_000_000_000, "generated_code": 0}
PROGRAM = Program("gan", "bfloat16", 64, 197e9, 1, SIZES, "", MEMORY, 1.0)
COUNTS = hlo.Counts(1000, (hlo.Collective("all-reduce", "bf16", 2, 40_000_000),), 819_000_000, 0, 0.0, None, 0)


@pytest.mark.parametrize(
    ("name", "count", "shape"),
    [
        ("v5e-1", 1, (1, 1)),
        ("v5e-8", 8, (2, 4)),
        ("v5e-16", 16, (4, 4)),
        ("v6e-256", 256, (16, 16)),
        ("v5p-8", 4, (2, 2, 1)),  # Google Cloud counts v5p's cores, two on a chip
        ("v5p-64", 32, (2, 4, 4)),
        ("v5p-256", 128, (4, 4, 8)),
    ],
)
def test_slices_have_the_shapes_that_google_cloud_lists(name, count, shape):
    topology = find_topology(name)
    assert (topology.devices, topology.shape) == (count, shape)


def test_machines_of_gpus():
    assert [find_topology(name).devices for name in ("h100", "h100-8", "a100-2")] == [1, 8, 2]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("v5e-2", "--topology v5e-2: expected v5e- and one of 1, 4, 8, 16, 32, 64, 128, 256"),
        ("h100-12", "--topology h100-12: expected h100- and one of 1, 2, 4, 8"),
        ("16", "--topology 16: expected a kind and a number of devices, such as v5e-16 or h100-8"),
        ("v6-8", "unknown kind of device 'v6'; valid: .*; did you mean 'v6e'"),
    ],
)
def test_other_topologies_are_refused(name, message):
    with pytest.raises(UserError, match=message):
        find_topology(name)


def test_peaks_have_a_source_and_cards_a_description():
    assert all(entry.source.startswith("https://") for name, entry in HARDWARE.items() if name != "cpu")
    assert set(CARDS) == {name for name, entry in HARDWARE.items() if entry.platform == "gpu"}
    text = target_config("h100")
    assert "core_count: 132\n" in text and "shared_memory_per_block_optin: 232448\n" in text  # 227 KiB
    assert text.count("{") == text.count("}") == 3


def test_operations_of_a_program_are_counted_with_its_loops():
    counts = hlo.count(HLO)
    assert counts.kernels == 3 * 2 + 2  # fusion and comparison, three times; two copies
    assert counts.cycles == 3 * 200 + 50  # the largest number means unknown
    assert counts.collectives == (hlo.Collective("all-reduce", "bf16", 1, 2000),)
    assert counts.launches == 9
    # 64 numbers lie in rows of 128: 16 * 128 * 4 = 8192 bytes, read and written in each turn; the comparison reads two
    # numbers and writes a byte; a copy reads or writes 1024 * 2 bytes, and its other end is on the chip.
    assert counts.bytes == 3 * (2 * 8192 + 2 * 4 + 1) + 2 * 2048
    assert counts.sent(4) == 2 * 3 / 4 * 2000 and counts.sent(1) == 0


def test_padding_of_layouts():
    (array,) = hlo.find_arrays("bf16[16,24,24,3]{0,3,2,1:T(4,128)(2,1)}")  # images in the lanes, then 3 channels
    assert array.padded == (24, 24, 4, 128)
    large = HLO.replace("16,64", "1600,64")
    counts = hlo.count(large)
    assert counts.padding == 0.5 and counts.worst and counts.worst.padded == (1600, 128)


def test_copies_of_tiles_are_found():
    copied = HLO.replace("bf16[1000]{0:T(1024)(128)(2,1)} copy", "u8[900,512]{1,0} copy")
    assert hlo.count(copied).largest_copy == 900 * 512


# As v6e's compiler writes a gather of rows by its SparseCore: a call within a call, whose results name their operands.
OFFLOADED = """
%inside (tiles.9: u8[4096,512], rows.9: s32[64]) -> u8[64,512] {
  %tiles.9 = u8[4096,512]{1,0} parameter(0)
  %rows.9 = s32[64]{0} parameter(1)
  ROOT %found.9 = u8[64,512]{1,0} gather(%tiles.9, %rows.9), offset_dims={1}
}

%gather (tiles.0: u8[4096,512], rows.0: s32[64]) -> u8[64,512] {
  %tiles.0 = u8[4096,512]{1,0} parameter(0)
  %rows.0 = s32[64]{0} parameter(1)
  ROOT %found.0 = u8[64,512]{1,0} fusion(%tiles.0, %rows.0), kind=kCustom, calls=%inside
}

%called (tiles.1: u8[4096,512], rows.1: s32[64]) -> u8[64,512] {
  %tiles.1 = u8[4096,512]{1,0} parameter(0)
  %rows.1 = s32[64]{0} parameter(1)
  %began.1 = ((u8[4096,512]{1,0}, s32[64]{0}), u8[64,512]{1,0}, u32[]) call-start(%tiles.1, %rows.1), to_apply=%gather
  ROOT %done.1 = u8[64,512]{1,0} call-done(%began.1)
}

ENTRY %main (tiles.2: u8[4096,512], rows.2: s32[64]) -> u8[64,512] {
  %began.2 = ((), (), (s32[1]{0})) call-start(), async_execution_thread="sparsecore", to_apply=%called
  %tiles.2 = u8[4096,512]{1,0} parameter(0)
  %rows.2 = s32[64]{0} parameter(1)
  %given = ((u8[4096,512]{1,0}, s32[64]{0}), u8[64,512]{1,0}) call-update(%began.2, %tiles.2, %rows.2)
  ROOT %done.2 = u8[64,512]{1,0} call-done(%given)
}
"""


def test_an_asynchronous_call_is_the_kernel_that_it_starts_and_copies_nothing():
    """It was taken for a copy of all tiles, because its result names the tiles among its operands."""
    counts = hlo.count(OFFLOADED)
    assert counts.kernels == 1 and counts.largest_copy == 64 * 512
    assert counts.bytes == 2 * 64 * 512 + 64 * 4  # rows that are read and written, and their numbers


# After an all-reduce of all gradients in one array, each is cut out of it.
SLICED = """
%cut (all.0: f32[1000]) -> f32[10] {
  %all.0 = f32[1000]{0} parameter(0)
  %seen.0 = f32[1000]{0} bitcast(%all.0)
  ROOT %part.0 = f32[10]{0} slice(%seen.0), slice={[0:10]}
}

%cut_and_sum (some.1: f32[10], all.1: f32[1000]) -> f32[10] {
  %some.1 = f32[10]{0} parameter(0)
  %all.1 = f32[1000]{0} parameter(1)
  %part.1 = f32[10]{0} slice(%all.1), slice={[0:10]}
  %sum.1 = f32[10]{0} custom-call(%all.1), custom_call_target="any"
  ROOT %both.1 = f32[10]{0} add(%part.1, %sum.1)
}

ENTRY %main (all: f32[1000]) -> f32[10] {
  %all = f32[1000]{0} parameter(0)
  %first = f32[10]{0} fusion(%all), kind=kLoop, calls=%cut
  %second = f32[10]{0} fusion(%first, %all), kind=kLoop, calls=%cut_and_sum
  ROOT %third = f32[10]{0} slice(%all), slice={[10:20]}
}
"""


def test_a_kernel_that_cuts_a_part_out_of_an_array_reads_that_part():
    """It was counted as reading the whole array: 23 GB too much for an update of ESRGAN on 8 devices."""
    # first and third read and write 10 numbers of 4 bytes; second also uses the array as a whole
    assert hlo.count(SLICED).bytes == 2 * (40 + 40) + (40 + 40 + 4000)


def test_counts_in_a_program_of_four_cpu_devices():
    mesh = devices.make_mesh(jax.devices()[:4])
    split, whole = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in (("data",), ()))

    def update(weights, x):
        return weights - jax.grad(lambda weights: jnp.sum((x @ weights) ** 2))(weights)

    shapes = jax.ShapeDtypeStruct((32, 8), jnp.float32), jax.ShapeDtypeStruct((64, 32), jnp.float32)
    traced = jax.jit(update, in_shardings=(whole, split), out_shardings=whole).trace(*shapes)
    counts = hlo.count(traced.lower().compile().as_text())
    assert counts.collectives == (hlo.Collective("all-reduce", "f32", 1, 32 * 8 * 4),)
    assert counts.kernels >= 2 and counts.bytes >= 4 * (64 * 32 // 4 + 2 * 32 * 8)
    assert count_operations(traced.jaxpr) == 2 * (2 * 64 * 32 * 8)  # x @ weights, and its transposed product


def test_operations_of_convolutions():
    def loss(kernel, x):
        y = jax.lax.conv_general_dilated(x, kernel, (2, 2), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
        return jnp.sum(y**2)

    def update(kernel, x):
        step = lambda kernel, _: (kernel - jax.grad(loss, (0, 1))(kernel, x)[0], None)  # noqa: E731
        return jax.lax.scan(jax.checkpoint(step), kernel, length=5)[0]

    kernel, x = jnp.zeros((3, 3, 4, 6)), jnp.zeros((2, 9, 9, 4))
    forward = 2 * (2 * 4 * 4 * 6) * (3 * 3 * 4)  # output numbers, taps of each
    assert count_operations(jax.make_jaxpr(loss)(kernel, x)) == forward
    gradient = jax.make_jaxpr(jax.grad(loss))(kernel, x)
    assert count_operations(gradient) == 2 * forward  # the weight gradient has as many products
    assert count_operations(jax.make_jaxpr(update)(kernel, x)) >= 5 * 2 * forward


def test_operations_divided_by_shard_map_are_those_of_all_devices():
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("batch",))
    split, whole = jax.sharding.PartitionSpec("batch"), jax.sharding.PartitionSpec()
    product = jax.shard_map(jnp.matmul, mesh=mesh, in_specs=(split, whole), out_specs=split)
    x, weights = jnp.zeros((64, 32)), jnp.zeros((32, 8))
    assert count_operations(jax.make_jaxpr(product)(x, weights)) == 2 * 64 * 32 * 8


def test_roofline_of_four_v5e():
    topology = find_topology("v5e-4")
    found = roofline.estimate(PROGRAM, COUNTS, topology)
    # 197 GFLOP at 197 TFLOP/s, 819 MB at 819 GB/s, and 40 MB * 2 * 3 / 4 at 200 GB/s
    assert found.seconds == pytest.approx({"arithmetic": 1e-3, "memory": 1e-3, "links": 0.3e-3})
    assert found.updates_per_second == pytest.approx(1000) and found.compiler_seconds is None
    assert found.memory["state"] == 2e9 and found.memory["activations"] == 1e9
    estimated = roofline.estimate(PROGRAM, COUNTS._replace(cycles=3_000_000), topology)
    assert estimated.compiler_seconds == pytest.approx(2e-3)  # at 1.5 GHz
    assert estimated.updates_per_second == pytest.approx(500)


def test_roofline_of_an_h100_counts_launches():
    found = roofline.estimate(PROGRAM, COUNTS, find_topology("h100"))
    assert found.seconds["launches"] == pytest.approx(1002 * 0.9e-6) and found.limit == "launches"
    assert "links" not in found.seconds and found.available == 0.75 * 80 * 2**30
    full = roofline.estimate(dataclasses.replace(PROGRAM, dtype="float32"), COUNTS, find_topology("h100"))
    assert full.seconds["arithmetic"] == pytest.approx(197 / 494e3)


@pytest.mark.parametrize(
    ("program", "counts", "warning"),
    [
        (
            {"memory": MEMORY | {"temp": 16_000_000_000}},
            {},
            r"doesn't fit: 18\.0 GB of 17\.2 GB; try --config.remat=True",
        ),
        ({"error": "Used 20G of 15.75G hbm"}, {}, r"doesn't fit on the device \(Used 20G.*config.micro_batches=2"),
        ({"sizes": SIZES | {"tiles": 8_000_000}}, {"largest_copy": 8_000_000}, "the tiles are copied: 8 MB"),
        (
            {},
            {"padding": 0.5, "worst": hlo.Array("f32", (64, 64), (64, 128), False)},
            r"50% of the memory .* f32\[64,64\] takes \[64,128\]",
        ),
        ({"batch": 4}, {}, "one crop a device; with --config.data.batch_size=64 each has 16"),
        # Each crop takes 1/16 ms of arithmetic; the state 4 GB at 819 GB/s = 4.88 ms, and 1.22 ms more for 16 crops:
        # no batch balances 1.00 ms of arithmetic with those.
        ({}, {"bytes": 5_000_000_000}, "the device wants 241 operations a byte, this program has 39; a larger batch"),
        # With 0.5 ms for 16 crops, 16 * 4.88 / (1 - 0.5) = 156.3 would: 157 on each of 4 devices.
        ({}, {"bytes": 4_000_000_000 + 409_500_000}, r"this program has 45; --config.data.batch_size=628 would"),
    ],
)
def test_warnings_name_the_remedy(program, counts, warning):
    topology = find_topology("v5e-4")
    program, counts = dataclasses.replace(PROGRAM, **program), COUNTS._replace(**counts)
    lines = list(roofline.warnings(program, counts, roofline.estimate(program, counts, topology), topology))
    assert len(lines) == 1 and re.search(warning, lines[0])


def test_a_program_without_problems_has_no_warnings():
    topology = find_topology("v5e-4")
    assert not [*roofline.warnings(PROGRAM, COUNTS, roofline.estimate(PROGRAM, COUNTS, topology), topology)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--topology", "v5e-3"], "--topology v5e-3: expected v5e- and one of"),
        (["--topology", "cpu", "--upscale", "4k"], "--upscale 4k: expected 720p, 1080p, 2160p, or WIDTHxHEIGHT"),
        (["--topology", "cpu", "--tiles", "-1"], "--tiles -1: expected 0 or more"),
    ],
)
def test_wrong_arguments_are_refused_in_a_line(arguments, message, capsys):
    assert cli.main(["plan", *arguments]) == 2
    assert capsys.readouterr().err.startswith(f"error: {message}")


@pytest.mark.parametrize(("name", "extra"), [("v5e-1", "plan-tpu"), ("h100-1", "plan-cuda")])
def test_a_missing_compiler_is_named_with_what_to_install(name, extra, capsys, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None if "tpu" in module or "cuda" in module else 1)
    assert cli.main(["plan", "--topology", name]) == 2
    assert f'pip install "srgan-jax[{extra}]"' in capsys.readouterr().err


@pytest.mark.parametrize(("status", "message"), [(-9, "ended by signal 9"), (1, "exit status 1: the last line")])
def test_a_child_that_dies_is_reported(status, message, monkeypatch, capsys):
    last = f"kill {status} $$" if status < 0 else f"exit {status}"
    ends = f"echo first line >&2; echo the last line >&2; echo >&2; {last}"
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda _, **options: start(["sh", "-c", ends], **options))
    assert cli.main(["plan", "--topology", "cpu"]) == 2
    assert f"compiling for cpu failed, {message}" in capsys.readouterr().err


@pytest.mark.slow
def test_the_child_ends_with_the_command(tmp_path):
    (tmp_path / "endless.py").write_text(
        "import os, pathlib, sys, time\n"
        "if sys.argv[0].endswith('child.py'):\n"
        "    pathlib.Path('pid').write_text(str(os.getpid()))\n"
        "    time.sleep(300)\n"
    )
    command = [sys.executable, "-m", "srgan_jax.cli", "plan", "--topology", "cpu", "--import", "./endless.py"]
    with subprocess.Popen(command, cwd=tmp_path, env=helpers.environment()) as parent:
        _wait(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
        parent.kill()
    child = int((tmp_path / "pid").read_text())
    _wait(lambda: not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE)


def _wait(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


@pytest.mark.slow
def test_plan_compiles_and_measures_on_the_cpu(capsys):
    command = ["plan", "--config", "compact", "--topology", "cpu-2", "--tiles", "4", "--stage", "psnr"]
    small = ["--config.generator.blocks=1", "--config.generator.width=4", "--config.data.crop_px=16"]
    assert cli.main([*command, *small, "--config.data.batch_size=3", "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert found["batch"] == 6 and "train with --config.data.batch_size=6" in found["notes"][0]
    assert found["memory"]["tiles"] == 4 * 512 * 512 * 3 + 4 * 4 * 4  # and three arrays of the images
    # All-reduced are the gradients, 3 * 3 * (3 * 4 + 2 * 4 * 4 + 4 * 48) + 3 * 4 + 48 + 4 numbers, and the metrics.
    gradients = 4 * (9 * (3 * 4 + 2 * 4 * 4 + 4 * 48) + 3 * 4 + 48)
    assert gradients <= sum(entry["bytes"] for entry in found["collectives"]) < gradients + 200
    assert found["limit"] == "" and found["estimated_updates_per_second"] is None
    assert len(plan_table.make_row(found)) == len(plan_table.HEAD)


def test_a_row_of_the_table_has_the_numbers_of_a_plan():
    reduced = [{"kind": "all-reduce", "dtype": "f32", "number": 67, "bytes": 6_220_000}]
    entry = {
        "config": "srgan", "name": "pretrain", "topology": "v5e-16", "batch": 256,
        "memory": {"state": 2e7, "tiles": 8e8}, "operations": 126e9, "bytes": 680e6,
        "kernels": 1267, "collectives": reduced,
        "estimated_seconds_at_least": {"arithmetic": 0.64e-3, "links": 5.83e-5},
        "estimated_seconds_by_compiler": 3.89e-3, "estimated_updates_per_second": 256.8,
    }  # fmt: skip
    assert plan_table.make_row(entry) == [
        "`srgan`, pretrain", "v5e-16", "256", "0.82 GB", "126.0", "680", "1,267", "67 all-reduce of 6.22 MB",
        "0.64", "", "", "0.0583", "3.89", "257",
    ]  # fmt: skip
