"""Operations on many small arrays at once, for GPUs, where each operation launches a kernel, however small it is.

On other backends, each array has operations of its own.
"""

import functools
import itertools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax

from srgan_jax.runtime.types import PyTree

LARGE = 1 << 20  # arrays with more values are not copied together
GROUP = 64  # arrays that XLA concatenates in one kernel, with casts and transpositions


def on_gpu(together, apart, tree: PyTree) -> PyTree:
    """Returns `together(tree)` in programs for GPUs, `apart(tree)` in others."""
    return jax.lax.platform_dependent(tree, cuda=together, rocm=together, default=apart)


def pack(tree: PyTree) -> PyTree:
    """Returns `tree`; on GPUs its small float32 arrays become parts of a few arrays, in row-major layout.

    cuDNN computes gradients of kernels in another layout. Without packing, each moment of Adam needed a kernel and
    copies of its own.
    """
    return on_gpu(_packed, lambda tree: tree, tree)


def _packed(tree: PyTree) -> PyTree:
    leaves, structure = jax.tree.flatten(tree)
    small = [index for index, leaf in enumerate(leaves) if leaf.size <= LARGE and leaf.dtype == jnp.float32]
    for start in range(0, len(small), GROUP):
        group = small[start : start + GROUP]
        flat = jax.lax.optimization_barrier(jnp.concatenate([leaves[index].ravel() for index in group]))
        for index, part in zip(group, _parts(flat, [leaves[index] for index in group]), strict=True):
            leaves[index] = part
    return jax.tree.unflatten(structure, leaves)


def _parts(flat: jax.Array, like: Sequence[jax.Array]) -> list[jax.Array]:
    """Returns consecutive parts of a vector, in the shapes of the arrays `like`."""
    ends = itertools.accumulate(leaf.size for leaf in like)
    return [flat[end - leaf.size : end].reshape(leaf.shape) for end, leaf in zip(ends, like, strict=True)]


def norm(tree: PyTree) -> jax.Array:
    """Returns the square root of the sum of all squares."""
    return on_gpu(_norm_together, optax.tree.norm, tree)


def _norm_together(tree: PyTree) -> jax.Array:
    leaves = jax.tree.leaves(tree)
    parts = [leaf for leaf in leaves if leaf.size > LARGE]
    small = [leaf.ravel() for leaf in leaves if leaf.size <= LARGE]
    parts += [jnp.concatenate(small[start : start + GROUP]) for start in range(0, len(small), GROUP)]
    return jnp.sqrt(functools.reduce(jnp.add, (jnp.sum(jnp.square(part)) for part in parts)))


def all_finite(tree: PyTree) -> jax.Array:
    """Returns whether every floating-point value of small arrays, which it concatenates, is finite: a bool scalar."""
    leaves = [leaf.ravel() for leaf in jax.tree.leaves(tree) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    # Without the barrier XLA could copy the check into every use.
    return jax.lax.optimization_barrier(jnp.isfinite(jnp.concatenate(leaves)).all())
