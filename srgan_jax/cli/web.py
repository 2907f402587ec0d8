"""`srgan-jax web`: writes a page that upscales images in the browser, and serves it on this machine."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from srgan_jax.cli.arguments import at_moment
from srgan_jax.runtime.errors import UserError

if TYPE_CHECKING:
    from srgan_jax.weights import Weights

DEFAULT_PORT = 8000


def web(args: argparse.Namespace) -> int:
    """Writes the folder, prints the size of its parts, and serves it if `--serve` is given."""
    from srgan_jax.export import web
    from srgan_jax.export.web.runtime import runtime_files
    from srgan_jax.runtime import devices
    from srgan_jax.weights import pretrained

    devices.check_platform()
    web.check_folder(Path(args.out))
    if args.serve is not None:
        web.check_port(args.serve)
    generators = _load(args.weights or [pretrained.DEFAULT], args)
    files = runtime_files(args.with_runtime, report=lambda line: print(line, file=sys.stderr))
    site = web.write_site(args.out, generators, files)
    for model in site.models:
        print(
            f"{site.folder / model.entry['file']}: {model.entry['bytes'] / 1e6:.1f} MB, differs from Python by at most "
            f"{model.difference:.1e}; float16 weights change results by at most {model.rounding:.1e}"
        )
    wasm, webgpu = (site.download_bytes[name] / 1e6 for name in ("wasm", "webgpu"))
    print(f"a browser downloads {wasm:.1f} MB of runtime (WebAssembly) or {webgpu:.1f} MB (WebGPU), once, and a model")
    if args.serve is None:
        print(f"{site.folder}/: copy it to any web server, or serve it here: srgan-jax web -o {args.out} --serve")
        return 0
    server = web.serve(site.folder, args.serve)
    print(f"http://{server.server_address[0]}:{server.server_address[1]}/ (Ctrl-C ends it)", flush=True)
    with server:
        server.serve_forever()
    return 0


def _load(paths: list[str], args: argparse.Namespace) -> dict[str, tuple["Weights", Mapping[str, str]]]:
    """Returns weights and provenance by name: the name of the file, or of the run's folder."""
    from srgan_jax import weights

    generators = {}
    for path in paths:
        name = (Path(path).resolve() if Path(path).is_dir() else Path(path).with_suffix("")).name
        if name in generators:
            raise UserError(f"two of --weights have the name {name}: rename one of the files")
        generators[name] = weights.load_with_provenance(at_moment(path, args))
    return generators


def add_web(commands) -> None:
    """Adds `web` to the commands of the parser."""
    sub = commands.add_parser("web", help="write a page that upscales images in the browser; nothing is uploaded")
    sub.add_argument(
        "-o", "--out", required=True, metavar="FOLDER", help="folder of the page: new, or one that this command wrote"
    )
    sub.add_argument(
        "--weights", nargs="+", metavar="W", help="generators, the first is chosen at the start (default: photo_x4)"
    )
    sub.add_argument(
        "--with-runtime",
        metavar="PATH",
        help="npm package onnxruntime-web: .tgz, folder or node_modules (default: download it, 33 MB)",
    )
    sub.add_argument(
        "--serve", type=int, nargs="?", const=DEFAULT_PORT, metavar="PORT",
        help=f"then serve it on 127.0.0.1 (default port: {DEFAULT_PORT}; 0: any free port)",
    )  # fmt: skip
    sub.set_defaults(run=web, step=None, best=False)
