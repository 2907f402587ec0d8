"""Settings of the site: `bash scripts/docs.sh`."""

import os
import re
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import srgan_jax  # noqa: E402

project = "srgan_jax"
author = "the srgan_jax developers"
version = release = srgan_jax.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_title = f"srgan_jax {version}"
html_theme_options = {"light_css_variables": {"code-font-size": "var(--font-size--small--2)"}}  # 88 columns fit

myst_heading_anchors = 3
default_role = "code"  # docstrings mark code by single backticks, as Markdown does
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_mock_imports = ["grain", "ml_collections", "tensorboardX", "tensorflow_datasets"]  # of the extra train
napoleon_use_ivar = True
napoleon_numpy_docstring = False

PAGES = {  # pages of the site whose text is a file of the repository
    "index": "README.md", "results": "RESULTS.md", "contributing": "CONTRIBUTING.md", "changelog": "CHANGELOG.md",
}  # fmt: skip
LINK = re.compile(r"(\]\()(?!\w+:|#|/)([^)#]+)(#[^)]*)?\)")


def relink(text: str, folder: str) -> str:
    """Returns Markdown of a file in `folder` of the repository with the links that it needs in `docs/`.

    Links between pages become links of the site. Those to other files of the repository become downloads.
    """
    names = {file: f"{page}.md" for page, file in PAGES.items()}

    def replaced(link: re.Match) -> str:
        target = os.path.normpath(os.path.join(folder, link[2]))
        target = names.get(target) or os.path.relpath(target, "docs")
        return f"{link[1]}{target}{link[3] or ''})"

    return LINK.sub(replaced, text)


def read_page(app, docname: str, content: list[str]) -> None:
    """Puts the repository's files where the pages want them."""
    text = relink(content[0], "docs")
    if docname in PAGES:
        path = ROOT / PAGES[docname]
        app.env.note_dependency(str(path))
        text = f"{relink(path.read_text(), '.')}\n\n{text}"
    content[0] = text


def setup(app) -> None:
    """Registers the above with Sphinx."""
    app.connect("source-read", read_page)
