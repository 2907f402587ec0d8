"""Writes the folder of the web page: the page's own files, generators, and ONNX Runtime Web."""

import hashlib
import json
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import NamedTuple

from srgan_jax.export.web import runtime
from srgan_jax.export.web.model import WebModel, write_web_model
from srgan_jax.runtime import atomic, versions
from srgan_jax.runtime.errors import UserError
from srgan_jax.weights import Weights

INFO = "site.json"  # what the page reads first; marks a folder that may be written again
POLICY = (
    "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; style-src 'self'; img-src 'self' blob: data:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'"
)


class Site(NamedTuple):
    """What was written: the folder, the generators, and how many bytes a browser downloads for each variant."""

    folder: Path
    models: list[WebModel]
    download_bytes: dict[str, int]


def check_folder(folder: Path) -> None:
    """Raises UserError if `folder` is a file, or holds other files than those of an earlier `write_site`."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file: expected a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / INFO).is_file():
        raise UserError(f"{folder} holds other files: expected a new or empty folder, or one of srgan-jax web")


def write_site(
    folder: str | os.PathLike,
    generators: Mapping[str, tuple[Weights, Mapping[str, str]]],
    runtime_files: Mapping[str, bytes],
) -> Site:
    """Writes a folder that any static server offers as a page that upscales images in the browser.

    Args:
      folder: new, empty, or written by this function before.
      generators: weights and provenance by the name that the page shows; the first is chosen at the start.
      runtime_files: from `runtime.runtime_files`.

    Raises:
      UserError: the folder holds other files, or a generator can't be written: see `write_web_model`.
    """
    folder = Path(folder)
    check_folder(folder)
    models = [
        write_web_model(params, folder / "models" / f"{name}.onnx", name, provenance)
        for name, (params, provenance) in generators.items()
    ]
    for name, content in runtime_files.items():
        _write(folder / "runtime" / name, content)
    download_bytes = runtime.variant_bytes(dict(runtime_files))
    info = {
        "made": f"srgan-jax {versions.package_versions()['srgan-jax']}",
        "runtime": {"version": runtime.VERSION, **download_bytes},
        "models": [model.entry for model in models],
    }
    _write_page(folder, json.dumps(info, indent=1))
    return Site(folder, models, download_bytes)


def _write_page(folder: Path, info: str) -> None:
    """Writes the page's files; the service worker's version is a checksum of everything that it keeps."""
    static = {
        path.name: path.read_text("utf-8").replace("@POLICY@", POLICY)
        for path in resources.files("srgan_jax.export.web").joinpath("static").iterdir()
    }
    service_worker = static.pop("sw.js")
    models = [entry["file"] for entry in json.loads(info)["models"]]
    kept = ["./", *sorted(static.keys() - {"index.html"}), INFO, *models]
    version = hashlib.sha256(json.dumps([info, service_worker, sorted(static.items())]).encode()).hexdigest()[:16]
    head = f"const SITE = {json.dumps({'version': version, 'files': kept, 'policy': POLICY})};\n"
    for name, text in {**static, "sw.js": head + service_worker, INFO: info}.items():
        _write(folder / name, text.encode())


def _write(path: Path, content: bytes) -> None:
    with atomic.atomic_file(path) as temporary:
        temporary.write_bytes(content)
