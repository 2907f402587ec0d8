"""Writes the tables of all config keys into docs/configs.md, from `srgan_jax/config/schema.py`.

python scripts/config_tables.py
"""

import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from srgan_jax.config import schema

PAGE = Path(__file__).parents[1] / "docs" / "configs.md"
BEGIN, END = "<!-- keys -->", "<!-- /keys -->"


def rows(kind: Any, prefix: str) -> Iterator[tuple[str, str, str, str]]:
    """Yields name, default, meaning and range of each key in a section of the config."""
    for field in dataclasses.fields(kind):
        value, limits = getattr(kind, field.name), field.metadata
        name = f"{prefix}{field.name}"
        if dataclasses.is_dataclass(value):
            yield from rows(value, f"{name}.")
        elif isinstance(value, Mapping):
            yield name, "", limits["meaning"], ""
            for key, item in value.items():
                if not dataclasses.is_dataclass(item):
                    yield f"{name}.{key}", repr(item), "", ""
        else:
            signs = {"low": ">=", "above": ">", "high": "<=", "below": "<"}
            shown = ", ".join(f"{sign} {limits[end]}" for end, sign in signs.items() if limits[end] is not None)
            yield name, repr(value), limits["meaning"], shown


def key_tables() -> str:
    """Returns a Markdown table for the config, for each stage, and for a term of a loss."""
    stages = schema.RunConfig().stages
    sections = {
        "The run": (schema.RunConfig(), ""),
        "Stage pretrain": (stages["pretrain"], "stages.pretrain."),
        "Stage gan": (stages["gan"], "stages.gan."),
        "A term of a loss": (schema.LossConfig(), "stages.NAME.losses.KEY."),
    }
    lines = []
    for title, (values, prefix) in sections.items():
        lines += ["", f"### {title}", "", "| key | default | meaning | range |", "| --- | --- | --- | --- |"]
        for name, default, meaning, limits in rows(values, prefix):
            cells = (f"`{name}`", f"`{default}`" if default else "", meaning, limits)
            lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(lines)


def page_with_tables(text: str) -> str:
    """Returns the page with the tables between its two markers."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{key_tables()}\n\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page_with_tables(PAGE.read_text()))
