"""Graphs of the generators: `GRAPHS`, one function each, and `build_graph`."""

from collections.abc import Callable

from srgan_jax.export.graph import Graph
from srgan_jax.export.graphs.compact import compact
from srgan_jax.export.graphs.dat import dat
from srgan_jax.export.graphs.edsr import edsr
from srgan_jax.export.graphs.msrresnet import msrresnet
from srgan_jax.export.graphs.realplksr import realplksr
from srgan_jax.export.graphs.restoration import restoration
from srgan_jax.export.graphs.rrdb import rrdb
from srgan_jax.export.graphs.span import span
from srgan_jax.export.graphs.srresnet import srresnet
from srgan_jax.export.graphs.srvggnet import srvggnet_compact
from srgan_jax.export.graphs.swinir import swinir
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import Weights

# Name in models.GENERATORS: a function that appends the generator's nodes to a graph and returns the output's name.
GRAPHS: dict[str, Callable[[Graph], str]] = {
    "srresnet": srresnet,
    "msrresnet": msrresnet,
    "compact": compact,
    "srvggnet_compact": srvggnet_compact,
    "rrdb": rrdb,
    "restoration": restoration,
    "span": span,
    "realplksr": realplksr,
    "edsr": edsr,
    "dat": dat,
    "swinir": swinir,
}


def build_graph(weights: Weights, *, clip: bool = True) -> Graph:
    """Returns the graph of a generator, from "lr" in [0, 1] to SR, clipped to [0, 1] unless `clip` is False.

    Raises:
      UserError: the generator has no entry in `GRAPHS`.
    """
    name = weights.architecture["name"]
    if name not in GRAPHS:
        raise UserError(
            f"{name} can't be written as ONNX or ncnn: expected one of {', '.join(sorted(GRAPHS))}. Export it with "
            "--to stablehlo, or add its graph to srgan_jax.export.GRAPHS"
        )
    graph = Graph(weights)
    sr = GRAPHS[name](graph)
    graph.output = graph.add("clip", sr, low=0.0, high=1.0) if clip else sr
    return graph
