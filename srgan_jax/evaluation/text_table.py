"""Tables for a terminal: aligned columns, in several blocks where they are wider than it."""

import textwrap
import unicodedata
from collections.abc import Sequence

GAP = "  "  # between two columns


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]], width: int | None, keys: int = 2) -> str:
    """Returns a table as lines of at most `width` columns of the terminal, where one column of numbers fits at all.

    Args:
      head: texts of the columns.
      rows: texts of the cells.
      width: of the terminal; columns that don't fit follow in another block, beside the keys again. None: any width.
      keys: the number of first columns that say what a row is; they are aligned at the left, the others at the right.
    """
    widths = [max(_width(row[index]) for row in (head, *rows)) for index in range(len(head))]
    blocks: list[list[int]] = []
    used = 0
    for index in range(keys, len(head)):
        if not blocks or (width is not None and used + len(GAP) + widths[index] > width):
            blocks.append(list(range(keys)))
            used = sum(widths[:keys]) + len(GAP) * (keys - 1)
        blocks[-1].append(index)
        used += len(GAP) + widths[index]
    return "\n\n".join(_block(head, rows, widths, chosen, keys) for chosen in blocks or [list(range(keys))])


def _block(
    head: Sequence[str], rows: Sequence[Sequence[str]], widths: Sequence[int], chosen: Sequence[int], keys: int
) -> str:
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(GAP.join(_padded(row[i], widths[i], i < keys) for i in chosen).rstrip() for row in lines)


def _padded(text: str, width: int, left: bool) -> str:
    space = " " * (width - _width(text))
    return text + space if left else space + text


def _width(text: str) -> int:
    """Returns the columns of a terminal that a text takes: two for a wide character, none for a combining one."""
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in text)
    return len(text) + wide - sum(unicodedata.combining(character) > 0 for character in text)


def bullets(notes: Sequence[str], width: int | None) -> str:
    """Returns a list of notes, wrapped at `width` unless that is None."""
    if width is None:
        return "\n".join(f"- {note}" for note in notes)
    wrapper = textwrap.TextWrapper(width, initial_indent="- ", subsequent_indent="  ", break_on_hyphens=False)
    return "\n".join(map(wrapper.fill, notes))
