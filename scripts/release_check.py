"""Lists what is missing before this version can be published; the exit status is 1 if something is missing.

    python -m build && python scripts/release_check.py

It needs Python 3.11 or newer and git, and no other package. Only the owner of the project can fill in some fields:
names, the repository's URL, a contact for security reports, and the permission to publish the package under its name.
"""

import argparse
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ENTITY = "The srgan_jax authors"  # stands in CITATION.cff until the owner gives names
CONTACT = re.compile(r"[\w.+-]+@[\w-]+\.\w+|https://\S+")


def read(file: Path) -> str:
    """Returns the text of a file, "" where there is none."""
    return file.read_text() if file.is_file() else ""


def missing_owner_fields(root: Path) -> Iterator[str]:
    """Yields what only the owner can fill in."""
    pyproject = tomllib.loads(read(root / "pyproject.toml"))
    project = pyproject["project"]
    if not any(key.lower() == "repository" for key in project.get("urls", {})):
        yield "pyproject.toml: no URL of the repository; add [project.urls] with Repository"
    if not any(author.get("name") for author in project.get("authors", [])):
        yield "pyproject.toml: no authors; add authors = [{name = ...}] to [project]"
    if pyproject.get("tool", {}).get("release_check", {}).get("name_may_be_published") is not True:
        yield (
            f"pyproject.toml: the owner has not said that the name {project['name']} may be published; when it may, "
            "add [tool.release_check] with name_may_be_published = true"
        )
    if not CONTACT.search(read(root / "SECURITY.md")):
        yield "SECURITY.md: no address or URL to which people report security problems"
    citation = read(root / "CITATION.cff")
    if ENTITY in citation:
        yield f'CITATION.cff: the authors are "{ENTITY}"; give their names'
    if not re.search(r"^repository-code:\s*\S", citation, re.MULTILINE):
        yield "CITATION.cff: no repository-code"


def missing_versions(root: Path, version: str) -> Iterator[str]:
    """Yields the files that don't name `version`, or name it without a date."""
    released = re.search(rf"^## \[{re.escape(version)}\] - (.+)$", read(root / "CHANGELOG.md"), re.MULTILINE)
    if not released:
        yield f"CHANGELOG.md: no section [{version}]"
    elif not re.fullmatch(r"\d{4}-\d{2}-\d{2}", released[1]):
        yield f"CHANGELOG.md: expected the date of [{version}] as YYYY-MM-DD, got {released[1]!r}"
    cited = re.search(r"^version:\s*[\"']?([^\s\"']+)", read(root / "CITATION.cff"), re.MULTILINE)
    if not cited or cited[1] != version:
        yield f"CITATION.cff: expected version {version}, got {cited[1] if cited else 'none'}"


def missing_in_git(root: Path, version: str) -> Iterator[str]:
    """Yields uncommitted files, and the tag if HEAD does not have it."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(root), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    try:
        changed = git("status", "--porcelain").splitlines()
        tags = git("tag", "--points-at", "HEAD").split()
    except (OSError, subprocess.CalledProcessError):
        yield "git: this is not a repository with a commit, or git is not installed"
        return
    if changed:
        more = f", and {len(changed) - 5} more" if len(changed) > 5 else ""
        yield f"git: not committed: {', '.join(line[3:] for line in changed[:5])}{more}"
    if f"v{version}" not in tags:
        yield f"git: HEAD has no tag v{version}"


def missing_in_wheel(root: Path, version: str, wheel: Path | None) -> Iterator[str]:
    """Yields the weights, recipes and other files that the wheel lacks.

    Args:
      root: the checkout.
      version: of the checkout.
      wheel: the wheel; None for the one of that version in `dist/`.
    """
    name = f"srgan_jax-{version}-py3-none-any.whl"
    wheel = wheel or root / "dist" / name
    if not wheel.is_file():
        yield f"wheel: no {wheel}; python -m build makes it"
        return
    if wheel.name != name:
        yield f"wheel: expected {name}, got {wheel.name}"
    weights = (root / "srgan_jax" / "weights" / "pretrained").glob("*.safetensors")
    wanted = {f"srgan_jax/weights/pretrained/{path.name}": path for path in weights}
    wanted |= {f"srgan_jax/recipes/{path.name}": path for path in (root / "configs").glob("*.py")}
    wanted |= {path.relative_to(root).as_posix(): path for path in (root / "srgan_jax").rglob("*.py")}
    wanted["srgan_jax/py.typed"] = root / "srgan_jax" / "py.typed"
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        for inside, path in sorted(wanted.items()):
            if inside not in names:
                yield f"wheel: no {inside}"
            elif archive.read(inside) != path.read_bytes():
                yield f"wheel: {inside} differs from the checkout; build it again"
    if not any(found.endswith("/LICENSE") for found in names):
        yield "wheel: no LICENSE"


def missing(root: Path, wheel: Path | None = None) -> list[str]:
    """Returns a line for each thing that is missing for a publication."""
    version = tomllib.loads(read(root / "pyproject.toml"))["project"]["version"]
    return [
        *missing_owner_fields(root),
        *missing_versions(root, version),
        *missing_in_git(root, version),
        *missing_in_wheel(root, version, wheel),
    ]


def main(argv: list[str] | None = None, root: Path = ROOT) -> int:
    """Prints what is missing; returns 0 if nothing is, else 1."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--wheel", type=Path, help="default: the one of this version in dist/")
    lines = missing(root, parser.parse_args(argv).wheel)
    for line in lines:
        print(line)
    print(f"{len(lines)} missing" if lines else "nothing is missing")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
