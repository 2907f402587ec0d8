"""Metrics that the log has besides the losses: norms of gradients, logits, memory."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import psutil

from srgan_jax.losses.terms import Metrics
from srgan_jax.runtime.types import PyTree
from srgan_jax.training import together


def grad_norms(**gradients: PyTree) -> Metrics:
    """Returns the global norm of each gradient, before clipping, as "grad_norm/NAME"."""
    return {f"grad_norm/{name}": together.norm(gradient) for name, gradient in gradients.items()}


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
