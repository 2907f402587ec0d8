"""What the log shows besides the losses: norms of gradients, logits, learning rates, memory."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
import psutil

from srgan_jax.losses.terms import Metrics
from srgan_jax.runtime.types import PyTree

LARGE = 1 << 20  # values of an array that is not worth copying


def grad_norms(**gradients: PyTree) -> Metrics:
    """Returns the global norm of each gradient, before clipping, as "grad_norm/NAME"."""
    norm = functools.partial(
        jax.lax.platform_dependent, cuda=norm_together, rocm=norm_together, default=optax.tree.norm
    )
    return {f"grad_norm/{name}": norm(gradient) for name, gradient in gradients.items()}


def norm_together(tree: PyTree) -> jax.Array:
    """Returns `optax.tree.norm(tree)`, in a few kernels of a GPU: all but large arrays are concatenated."""
    leaves = jax.tree.leaves(tree)
    large = [leaf for leaf in leaves if leaf.size > LARGE]
    small = [leaf.ravel() for leaf in leaves if leaf.size <= LARGE]
    parts = [*large, jnp.concatenate(small)] if small else large
    return jnp.sqrt(sum(jnp.sum(jnp.square(part)) for part in parts))


def mean_logits(logits: Sequence[tuple[jax.Array, jax.Array]]) -> Metrics:
    """Returns the mean logits of the discriminator on real and on generated images, averaged over its heads."""
    means = [(real.mean(dtype=jnp.float32), fake.mean(dtype=jnp.float32)) for real, fake in logits]
    sides = zip(("d_logit_real", "d_logit_fake"), zip(*means, strict=True), strict=True)
    return {name: jnp.stack(values).mean() for name, values in sides}


def memory_gb() -> dict[str, float]:
    """Returns the host memory of this process in GB, and the peak memory of the first device if JAX reports it."""
    used = {"host_memory_gb": psutil.Process().memory_info().rss / 1e9}
    statistics = jax.local_devices()[0].memory_stats() or {}
    if peak := statistics.get("peak_bytes_in_use"):
        used["device_memory_gb"] = peak / 1e9
    return {name: round(value, 3) for name, value in used.items()}
