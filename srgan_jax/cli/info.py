"""`srgan-jax info`: prints the model card of a generator, or the environment for a bug report."""

import argparse
from collections.abc import Mapping

from srgan_jax.cli.arguments import add_moment, at_moment
from srgan_jax.runtime.terminal import one_line


def _print_fields(fields: Mapping[str, object]) -> None:
    for key, value in fields.items():
        print(one_line(f"{key}: {value}"))


def _print_model_card(path: str) -> None:
    """Prints the architecture of a generator or discriminator, its number of parameters, and its file's metadata."""
    import jax

    from srgan_jax import weights

    params, provenance = weights.load_any_with_provenance(path)
    count = sum(leaf.size for leaf in jax.tree.leaves(params.variables))
    fields = ", ".join(f"{key} {value}" for key, value in params.architecture.items() if key != "name")
    _print_fields({"architecture": f"{params.architecture['name']}: {fields}", "parameters": f"{count:,}"})
    _print_fields({key.replace("_", " "): value for key, value in sorted(provenance.items())})


def _print_environment() -> None:
    """Prints versions, devices, and the locations of weights and compiled programs."""
    import os

    import jax

    from srgan_jax.runtime import compilation, devices, versions
    from srgan_jax.weights import networks, pretrained

    _print_fields(versions.platform_versions() | versions.package_versions(versions.RECORDED + versions.OTHERS))
    found = jax.devices()
    variable = networks.FOLDER_VARIABLE
    _print_fields({
        "devices": f"{len(found)} x {found[0].device_kind} ({found[0].platform})",
        "processor cores": os.cpu_count(),
        "free memory": f"{devices.free_bytes() / 1e9:.1f} GB",
        "compiled programs": compilation.user_cache_folder() / "srgan_jax",
        "shipped weights": f"{', '.join(pretrained.names())} (in {pretrained.FOLDER})",
        variable: os.environ.get(variable, "not set; weights/ in the current folder is used"),
    })  # fmt: skip
    for name in networks.PORT_COMMANDS:
        path = networks.network_path(name)
        print(f"weights of {name}: {path.absolute()}{'' if path.is_file() else ' (no such file)'}")


def info(args: argparse.Namespace) -> int:
    """Prints the model card of the given weights; without any, prints the environment."""
    from srgan_jax.runtime import devices

    devices.check_platform()
    if args.weights is None:
        _print_environment()
    else:
        _print_model_card(at_moment(args.weights, args))
    return 0


def add_info(commands) -> None:
    """Adds `info` to the commands of the parser."""
    sub = commands.add_parser(
        "info", help="print the model card of a generator; without W: versions, devices, locations of weights"
    )
    sub.add_argument(
        "weights",
        nargs="?",
        metavar="W",
        help="shipped name, .safetensors or .pth file, run folder or checkpoint, hf://owner/name",
    )
    add_moment(sub)
    sub.set_defaults(run=info)
