"""`HARDWARE`, the published numbers of TPUs and GPUs, and `find_topology`, which reads names such as v5e-16."""

import re
from typing import NamedTuple

from srgan_jax.runtime.errors import UserError, lookup

GIB = 2**30
TPU = "https://docs.cloud.google.com/tpu/docs/"
NVIDIA = "https://www.nvidia.com/en-us/data-center/"
# From kernel to kernel in a stream 3.8 µs, of which the kernel takes 2.9 µs; measured by NVIDIA on a V100. From memory,
# unverified: when these numbers were checked, in November 2026, the page couldn't be read.
LAUNCH_SECONDS, LAUNCH_SOURCE = 0.9e-6, "https://developer.nvidia.com/blog/cuda-graphs/"


class Hardware(NamedTuple):
    """What is published about a device; 0 where nothing is known.

    Attributes:
      platform: "tpu", "gpu" or "cpu".
      kind: the `device_kind` that JAX gives it.
      flops: operations a second of matrix products of bfloat16, without sparsity.
      float32_flops: the same for float32 arrays at XLA's default precision: bfloat16 on TPUs, TF32 on GPUs.
      memory: of the device, in bytes.
      bandwidth: bytes a second between memory and processor.
      link: bytes a second that the device sends over all its links to the others of the slice or machine.
      source: where these numbers are published.
      clock: cycles a second, for the compiler's estimate in cycles.
      cores: by which the names of topologies count a device.
      unverified: what of these numbers wasn't found on the page of `source`.
    """

    platform: str
    kind: str
    flops: float = 0.0
    float32_flops: float = 0.0
    memory: float = 0.0
    bandwidth: float = 0.0
    link: float = 0.0
    source: str = ""
    clock: float = 0.0
    cores: int = 1
    unverified: str = ""


# The clocks of TPUs are not published: a clock is the peak divided by what the matrix units do in a cycle. These are 4
# of 128 x 128 on v5e, 8 on v5p, and 4 of 256 x 256 on v6e (its page counts 2), with 2 operations for each product. For
# v5e the authors of JAX name the same clock: https://jax-ml.github.io/scaling-book/tpus.
DERIVED = "the clock is derived from the peak, unverified"
# Checked in November 2026: the TPUs' pages state these peaks (v6e's earlier 1,640 GB/s; links are stated for both
# directions together). NVIDIA's pages couldn't be read; tables of others state the same for bfloat16, memory and links
# (NVLink's 600 and 900 GB/s are both directions together), and half of what NVIDIA states with sparsity.
NOT_READ = "peaks from memory and from tables of others, unverified on NVIDIA's page"
HARDWARE = {
    "v5e": Hardware("tpu", "TPU v5 lite", 197e12, 197e12, 16 * GIB, 819e9, 200e9, TPU + "v5e", 1.5e9),
    "v5p": Hardware("tpu", "TPU v5", 459e12, 459e12, 95 * GIB, 2765e9, 600e9, TPU + "v5p", 1.75e9, 2, DERIVED),
    "v6e": Hardware("tpu", "TPU v6 lite", 918e12, 918e12, 32 * GIB, 1600e9, 400e9, TPU + "v6e", 1.75e9, 1, DERIVED),
    "a100": Hardware(
        "gpu", "NVIDIA A100-SXM4-80GB", 312e12, 156e12, 80 * GIB, 2039e9, 300e9, NVIDIA + "a100/", unverified=NOT_READ
    ),
    "h100": Hardware(
        "gpu", "NVIDIA H100 80GB HBM3", 989e12, 494e12, 80 * GIB, 3350e9, 450e9, NVIDIA + "h100/", unverified=NOT_READ
    ),
    "h200": Hardware("gpu", "NVIDIA H200", 989e12, 494e12, 141e9, 4800e9, 450e9, NVIDIA + "h200/", unverified=NOT_READ),
    "cpu": Hardware("cpu", "cpu"),
}


class Card(NamedTuple):
    """What XLA's GPU compiler asks for about a card, besides its `Hardware`. All cards have 1024 threads a block.

    Attributes:
      capability: CUDA's compute capability.
      multiprocessors: number of streaming multiprocessors.
      units: float32 units of a multiprocessor.
      shared_kib: shared memory of a multiprocessor; a block may have 1 KiB less.
      cache_mib: of the second level.
      clock_ghz: the highest.
    """

    capability: tuple[int, int]
    multiprocessors: int
    units: int
    shared_kib: int
    cache_mib: int
    clock_ghz: float


# NVIDIA's white papers of the Ampere and the Hopper architecture, and the table of compute capabilities in the CUDA
# programming guide: https://docs.nvidia.com/cuda/cuda-programming-guide/05-appendices/compute-capabilities.html
CARDS = {
    "a100": Card((8, 0), 108, 64, 164, 40, 1.41),
    "h100": Card((9, 0), 132, 128, 228, 50, 1.98),
    "h200": Card((9, 0), 132, 128, 228, 50, 1.98),
}


def target_config(name: str) -> str:
    """Returns XLA's description of a card of `CARDS`, a `GpuTargetConfigProto` as text."""
    card, hardware = CARDS[name], HARDWARE[name]
    major, minor = card.capability
    feature = "ACCELERATED_FEATURES" if major >= 9 else "NONE"
    fields = {
        "threads_per_block_limit": 1024, "threads_per_warp": 32, "threads_per_core_limit": 2048,
        "shared_memory_per_block": 48 << 10, "shared_memory_per_core": card.shared_kib << 10,
        "shared_memory_per_block_optin": (card.shared_kib - 1) << 10, "core_count": card.multiprocessors,
        "fpus_per_core": card.units, "registers_per_core_limit": 1 << 16, "registers_per_block_limit": 1 << 16,
        "block_dim_limit_x": 2**31 - 1, "block_dim_limit_y": 65535, "block_dim_limit_z": 65535,
        "thread_dim_limit_x": 1024, "thread_dim_limit_y": 1024, "thread_dim_limit_z": 64,
        "memory_bandwidth": int(hardware.bandwidth), "l2_cache_size": card.cache_mib << 20,
        "clock_rate_ghz": card.clock_ghz, "device_memory_size": int(hardware.memory),
    }  # fmt: skip
    lines = "\n".join(f"  {name}: {value}" for name, value in fields.items())
    capability = f"  cuda_compute_capability {{ major: {major} minor: {minor} feature_extension: {feature} }}"
    return (
        f'gpu_device_info {{\n{lines}\n{capability}\n}}\nplatform_name: "CUDA"\n'
        f'dnn_version_info {{ major: 9 minor: 10 patch: 0 }}\ndevice_description_str: "{hardware.kind}"\n'
    )


class Topology(NamedTuple):
    """Devices of one kind that are connected.

    Attributes:
      name: as the user writes it, such as "v5e-16".
      kind: a key of `HARDWARE`.
      devices: their number, as JAX counts them.
    """

    name: str
    kind: str
    devices: int

    @property
    def hardware(self) -> Hardware:
        """The numbers of one of the devices."""
        return HARDWARE[self.kind]

    @property
    def shape(self) -> tuple[int, ...]:
        """The devices of a TPU slice along each axis: 16 are 4 x 4 on v5e and v6e; on v5p 16 are 2 x 2 x 4."""
        axes, power = (3 if self.hardware.cores == 2 else 2), self.devices.bit_length() - 1
        if axes == 3 and self.devices == 4:  # one host
            return 2, 2, 1
        return tuple(2 ** ((power + axis) // axes) for axis in range(axes))


def find_topology(name: str) -> Topology:
    """Returns the topology of a name: a key of `HARDWARE` and a number; without a number it is 1.

    v5p is counted in cores, two a device, as in the names of Google Cloud: v5p-64 has 32 devices.

    Raises:
      UserError: an unknown kind, or a number that there is no slice or machine of.
    """
    match = re.fullmatch(r"([a-z]+\d*[a-z]*)(?:-(\d+))?", name)
    if not match:
        raise UserError(f"--topology {name}: expected a kind and a number of devices, such as v5e-16 or h100-8")
    kind, number = match[1], int(match[2] or 1)
    hardware = lookup(HARDWARE, kind, "kind of device")
    valid = [1, 2, 4, 8]
    if hardware.platform == "tpu":
        largest = 2048 if hardware.cores == 2 else 256
        valid = [1 << power for power in range(largest.bit_length()) if 1 << power != 2]
        valid = [hardware.cores * count for count in valid if count <= largest]
    if number not in valid:
        raise UserError(f"--topology {name}: expected {kind}- and one of {', '.join(map(str, valid))}")
    return Topology(name, kind, number // hardware.cores)
