"""Prints a Markdown table of files that `srgan-jax plan --json` wrote. All times in it are estimated.

srgan-jax plan --config srgan --topology v5e-16 --json > srgan_v5e-16.json
python scripts/plan_table.py *.json
"""

import argparse
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HEAD = (
    "recipe, stage", "topology", "batch", "memory of a device", "GFLOP", "MB moved", "kernels", "collectives",
    "arithmetic", "memory", "launches", "links", "compiler", "updates a second",
)  # fmt: skip


def make_row(entry: Mapping[str, Any]) -> list[str]:
    """Returns the cells of a program: sizes of one device, and estimated milliseconds."""
    numbers = Counter({})
    for found in entry["collectives"]:
        numbers[found["kind"]] += found["number"]
    sent = sum(found["bytes"] for found in entry["collectives"])
    across = ", ".join(f"{number} {kind}" for kind, number in numbers.items())
    seconds = entry["estimated_seconds_at_least"]
    limits = [_milliseconds(seconds.get(name)) for name in ("arithmetic", "memory", "launches", "links")]
    compiler, rate = entry["estimated_seconds_by_compiler"], entry["estimated_updates_per_second"]
    return [
        f"`{entry['config']}`, {entry['name']}", entry["topology"], f"{entry['batch']:,}",
        f"{sum(entry['memory'].values()) / 1e9:.2f} GB", f"{entry['operations'] / 1e9:,.1f}",
        f"{entry['bytes'] / 1e6:,.0f}" if entry["bytes"] else "", f"{entry['kernels']:,}",
        f"{across} of {sent / 1e6:.3g} MB" if across else "none", *limits, _milliseconds(compiler),
        f"{'' if compiler else 'at most '}{rate:,.0f}" if rate else "",
    ]  # fmt: skip


def _milliseconds(seconds: float | None) -> str:
    return f"{seconds * 1e3:.3g}" if seconds else ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table of all programs in the files."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    args = parser.parse_args(arguments)
    rows = [make_row(entry) for path in args.files for entry in json.loads(path.read_text())]
    for cells in (HEAD, ["---"] * len(HEAD), *rows):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
