"""Writing so that a crash leaves the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class DiskFullError(OSError):
    """No space, or none of the user's share of it; ``errno`` is the system's."""

    def __str__(self) -> str:
        return str(self.strerror)


def write_text(path: Path, text: str) -> None:
    """As ``write_bytes``, in UTF-8."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Write elsewhere, flush to the disk, then move into place; DiskFullError leaves what was there."""
    with said_when_full(path.parent):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        try:
            _write(temporary, content)
            temporary.replace(path)
            _flush(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``json_bytes`` of a value, as ``write_bytes`` does."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """A value as the content of a JSON file; ValueError for NaN and infinity, since JSON has neither."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """As ``write_bytes`` for a folder of files: what has its name is there, whole, until the new one is on the disk.

    Files that do not fit are not begun, since what was written of them would take others' room meanwhile.
    """
    new, old = (folder.with_name(f".{folder.name}.{word}") for word in ("new", "old"))
    with said_when_full(folder.parent):
        try:
            _settle(folder, new, old)  # what a process that died has left
            new.mkdir(parents=True)
            _refuse_without_room(new, sum(len(content) for content in files.values()))
            for name, content in files.items():
                _write(new / name, content)
            _flush(new)
            if folder.exists():
                folder.rename(old)
            new.rename(folder)
            _flush(folder.parent)
        finally:
            _settle(folder, new, old)


def _settle(folder: Path, new: Path, old: Path) -> None:
    """Put the old folder back where it has given its name up and no new one has taken it; remove the rest."""
    if old.exists() and not folder.exists():
        old.rename(folder)
    for left in (new, old):
        shutil.rmtree(left, ignore_errors=True)


def _refuse_without_room(folder: Path, size: int) -> None:
    disk = shutil.disk_usage(folder)
    if disk.total > 0 and disk.free < size:  # some network file systems do not say what they have
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _flush(folder: Path) -> None:
    """Bring the names in a folder to the disk: without it a new name may not outlive a loss of power."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def said_when_full(folder: Path) -> Iterator[None]:
    """Raise the system's error for a full disk with words that say what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(
            error.errno,
            f"disk full: no space left in {folder} ({os.strerror(error.errno)}); free some and run the same command; "
            "`altformer gc` removes what finished matrices need no longer",
        ) from error
