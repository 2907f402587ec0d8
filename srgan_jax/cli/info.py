"""`srgan-jax info`: prints the model card of a generator."""

import argparse


def info(args: argparse.Namespace) -> int:
    """Prints the architecture of a generator, its number of parameters, and the metadata of its file."""
    import jax

    from srgan_jax import weights

    params = weights.load(args.weights, fold=False)
    count = sum(leaf.size for leaf in jax.tree.leaves(params.variables))
    fields = ", ".join(f"{key} {value}" for key, value in params.architecture.items() if key != "name")
    lines = {"architecture": f"{params.architecture['name']}: {fields}", "parameters": f"{count:,}"}
    for key, value in (lines | dict(sorted(weights.read_provenance(args.weights).items()))).items():
        print(f"{key.replace('_', ' ')}: {value}")
    return 0


def add_info(commands) -> None:
    """Adds `info` to the commands of the parser."""
    sub = commands.add_parser("info", help="print the model card of a generator")
    sub.add_argument("weights", help="name of shipped weights, .safetensors file or run folder")
    sub.set_defaults(run=info)
