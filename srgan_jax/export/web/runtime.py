"""ONNX Runtime Web: one pinned version of the npm package, whose files are checked before they are copied."""

import base64
import hashlib
import io
import tarfile
from collections.abc import Callable
from pathlib import Path

from srgan_jax.runtime import compilation
from srgan_jax.runtime.errors import MissingFileError, UserError
from srgan_jax.weights.ports.files import Official, download

VERSION = "1.30.0"
TARBALL = f"onnxruntime-web-{VERSION}.tgz"
URL = f"https://registry.npmjs.org/onnxruntime-web/-/{TARBALL}"
INTEGRITY = "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ=="

# The page's files of each variant, and their SHA-256; the second computes by WebGPU, too.
VARIANTS: dict[str, dict[str, str]] = {
    "wasm": {
        "ort.wasm.min.mjs": "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b",
        "ort-wasm-simd-threaded.mjs": "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b",
        "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
    },
    "webgpu": {
        "ort.webgpu.min.mjs": "3dffff71811bc13a3a3d9591c57ca5ee5735b8f5f3eaf789510b02bb040ae3a0",
        "ort-wasm-simd-threaded.asyncify.mjs": "3d1c85995364bb643302fc6fd877a0c3ba5ae72401815e0f24828a53d9191e28",
        "ort-wasm-simd-threaded.asyncify.wasm": "39f9f0894d478800487ed9f7dbe92618498db320cf55c8e3d89adff8dce658da",
    },
}


def runtime_files(given: str | Path | None, report: Callable[[str], None] = lambda line: None) -> dict[str, bytes]:
    """Returns the files of ONNX Runtime Web by name, with the checksums of `VARIANTS`.

    Args:
      given: the npm package: its `.tgz`, its folder, or the `node_modules` that holds it. None: the package is
        downloaded from npm's registry into the user's cache folder, unless it is there.
      report: gets a line before a download.

    Raises:
      UserError: the package isn't there, has another version, or can't be downloaded.
    """
    path = Path(given) if given is not None else _downloaded(report)
    if not path.exists():
        raise MissingFileError(f"{path} doesn't exist: expected {TARBALL} (npm pack onnxruntime-web@{VERSION})")
    files = _from_folder(path) if path.is_dir() else _from_tarball(path)
    for name, digest in _digests().items():
        if name not in files:
            raise UserError(f"{path} has no {name}: expected the npm package onnxruntime-web, version {VERSION}")
        if (found := hashlib.sha256(files[name]).hexdigest()) != digest:
            raise UserError(
                f"{path}: {name} has SHA-256 {found[:16]}..., expected {digest[:16]}..., that of version {VERSION}: "
                f"npm pack onnxruntime-web@{VERSION}"
            )
    return files


def variant_bytes(files: dict[str, bytes]) -> dict[str, int]:
    """Returns how many bytes a browser downloads, for each of `VARIANTS`."""
    return {name: sum(len(files[file]) for file in variant) for name, variant in VARIANTS.items()}


def _digests() -> dict[str, str]:
    return {name: digest for variant in VARIANTS.values() for name, digest in variant.items()}


def cached_tarball() -> Path:
    """Returns where a downloaded package is kept, in the user's cache folder."""
    return compilation.user_cache_folder() / "srgan_jax" / "web" / TARBALL


def _downloaded(report: Callable[[str], None]) -> Path:
    path = cached_tarball()
    folder = path.parent
    if not path.exists():
        report(f"downloading {URL} (33 MB) to {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        digest = base64.b64decode(INTEGRITY.removeprefix("sha512-")).hex()
        try:
            download(Official(URL, "sha512", digest), folder)
        except UserError as error:
            path.unlink(missing_ok=True)
            hint = f"with npm: npm pack onnxruntime-web@{VERSION}, then --with-runtime {TARBALL}"
            raise UserError(f"{error} ({hint})") from None
    return path


def _from_folder(path: Path) -> dict[str, bytes]:
    places = (path / "dist", path / "onnxruntime-web" / "dist", path / "node_modules" / "onnxruntime-web" / "dist")
    folder = next((place for place in places if place.is_dir()), path)
    return {name: (folder / name).read_bytes() for name in _digests() if (folder / name).is_file()}


def _from_tarball(path: Path) -> dict[str, bytes]:
    files = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(path.read_bytes()), mode="r:gz") as tarball:
            for member in tarball:
                name = member.name.removeprefix("package/dist/")
                if name in _digests() and member.isfile() and (stream := tarball.extractfile(member)):
                    files[name] = stream.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise UserError(
            f"{path}: expected {TARBALL}, which npm pack onnxruntime-web@{VERSION} writes: {error}"
        ) from None
    return files
