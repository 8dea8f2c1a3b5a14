"""A log of JSON lines that is only ever added to, and that a crash leaves readable."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from altformer.files import said_when_full

Entry = dict[str, Any]


class JsonLines:
    """One JSON object a line; each is on the disk when ``append`` returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> list[Entry]:
        """All entries; a line that a crash cut short is none."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        entries = []
        for line in text.splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if isinstance(entry, dict):
                entries.append(entry)
        return entries

    def append(self, entry: Entry) -> None:
        """Add an entry; NaN and infinity are refused, since JSON has neither. DiskFullError where it does not fit."""
        line = json.dumps(entry, allow_nan=False) + "\n"
        with said_when_full(self.path.parent):
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab+") as file:
                if file.tell():
                    file.seek(-1, os.SEEK_END)
                    if file.read(1) != b"\n":
                        file.write(b"\n")  # the cut line stays apart from ours
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())
