"""`count_operations`: the arithmetic of convolutions and matrix products, from what JAX traced."""

import math
from typing import Any

import jax


def count_operations(jaxpr: Any) -> float:
    """Returns the additions and multiplications of the convolutions and matrix products in a jaxpr.

    Loops are counted as often as they turn (`while` once), rematerialised parts as often as they are computed, and of
    several branches the largest. Taps in the zeros of a convolution's padding are counted, those in the zeros between
    the samples of a dilated input aren't. The body of `shard_map` is counted once for each device of its mesh.
    """
    return sum(_operations_of(equation) for equation in getattr(jaxpr, "jaxpr", jaxpr).eqns)


def _operations_of(equation: Any) -> float:
    name, parameters = equation.primitive.name, equation.params
    if name == "conv_general_dilated":
        kernel, features = equation.invars[1].aval.shape, parameters["dimension_numbers"].rhs_spec[0]
        taps = math.prod(kernel) / kernel[features]
        return 2 * math.prod(equation.outvars[0].aval.shape) * taps / math.prod(parameters["lhs_dilation"])
    if name == "dot_general":
        (contracted, _), _ = parameters["dimension_numbers"]
        left = equation.invars[0].aval.shape
        return 2 * math.prod(equation.outvars[0].aval.shape) * math.prod(left[axis] for axis in contracted)
    inner = [
        count_operations(found) for found in jax.tree.leaves(dict(parameters), is_leaf=_is_jaxpr) if _is_jaxpr(found)
    ]
    if name == "cond":
        return max(inner, default=0.0)
    if name == "shard_map":
        return sum(inner) * parameters["mesh"].size
    return sum(inner) * parameters.get("length", 1) if name == "scan" else sum(inner)


def _is_jaxpr(value: Any) -> bool:
    return hasattr(value, "eqns") or hasattr(getattr(value, "jaxpr", None), "eqns")
