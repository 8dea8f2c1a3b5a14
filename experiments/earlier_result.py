"""Training a cell anew: its earlier result stands aside until there is another, and comes back when there is none."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from experiments.cell_lock import LOCK
from experiments.cell_log import LOG

ASIDE = ".earlier"  # a cell's folder: all that was there before, beside what is trained anew
MOVING = ".moving"  # a cell's folder: a part of that, the rest of which is not aside yet, or no more

_RECORD = "record.json"
_STAYS = {LOCK, LOG, ASIDE, MOVING}


@contextmanager
def earlier_aside(folder: Path, again: bool, has_result: Callable[[Path], bool]) -> Iterator[None]:
    """Within it, with ``again``, all that a cell's folder held is aside: for good once ``has_result`` of the folder.

    The cell's lock must be held. What a process that died has left aside is settled in the same way, at the start.
    """
    _settle(folder, has_result)
    if again:
        _set_aside(folder)
    try:
        yield
    finally:
        _settle(folder, has_result)


def _set_aside(folder: Path) -> None:
    """The record first: nobody is to find one without its checkpoints."""
    if not (content := _content(folder)):
        return
    moving = folder / MOVING
    moving.mkdir()
    for path in sorted(content, key=lambda path: path.name != _RECORD):
        path.rename(moving / path.name)
    moving.rename(folder / ASIDE)


def _settle(folder: Path, has_result: Callable[[Path], bool]) -> None:
    """Remove what is aside if there is a new result, else put it back in the place of what has come to nothing.

    However early it is ended, the next call goes on: what is being moved is in one of two places, never in both.
    """
    aside, moving = folder / ASIDE, folder / MOVING
    if aside.is_dir() and not moving.is_dir():
        if has_result(folder):
            shutil.rmtree(aside)
            return
        for path in _content(folder):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        aside.rename(moving)
    if moving.is_dir():
        for path in sorted(moving.iterdir(), key=lambda path: path.name == _RECORD):
            path.rename(folder / path.name)
        moving.rmdir()


def _content(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name not in _STAYS]
