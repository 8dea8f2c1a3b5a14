"""Writing so that a crash leaves the old file or the new one, never half of one."""

from __future__ import annotations

import json
import os
import shutil
import uuid
from pathlib import Path
from typing import Any


def write_text(path: Path, text: str) -> None:
    """As ``write_bytes``, in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write elsewhere, flush to the disk, then move into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """As ``write_text``; NaN and infinity are refused, since JSON has neither."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def move_folder(temporary: Path, final: Path) -> None:
    """Flush the files of a finished folder to the disk and give it its final name, replacing what is there."""
    for path in [*temporary.iterdir(), temporary]:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    if final.exists():
        shutil.rmtree(final)
    temporary.rename(final)
