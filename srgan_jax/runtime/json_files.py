"""Reading of JSON files that a run or `prepare` wrote: one object in a file, or one object in each line."""

import contextlib
import json
from pathlib import Path
from typing import Any

from srgan_jax.runtime.errors import UserError

MAX_BYTES = 64 << 20  # the list of a million images has 40 MB


def read_object(file: Path, advice: str) -> dict[str, Any]:
    """Returns the content of a JSON file.

    Args:
      file: UTF-8.
      advice: end of the message: what the user should do if the file is damaged.

    Raises:
      UserError: the file is empty, truncated, damaged or too large, or holds no object.
    """
    try:
        with file.open("rb") as opened:
            text = opened.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise UserError(f"{file}: expected at most {MAX_BYTES} bytes, found more; {advice}")
        content = json.loads(text) if text else None
    except UserError:
        raise
    except (ValueError, RecursionError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{file} is damaged ({reason}); {advice}") from None
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise UserError(f"{file} is damaged (expected a JSON object, found {found}); {advice}")
    return content


def read_lines(file: Path) -> list[dict[str, Any]]:
    """Returns the JSON objects of the lines of a UTF-8 file; leaves out other lines, such as a truncated one."""
    found = []
    for line in file.read_text(encoding="utf-8", errors="replace").splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            found.append(json.loads(line))
    return [item for item in found if isinstance(item, dict)]
