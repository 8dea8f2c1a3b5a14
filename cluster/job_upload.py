"""What of a project's folder a job takes along, looked at before anything is sent: sources and settings, no data.

Ray packs the folder itself; the rules here are those that it is given, and the walk is Ray's own, so that what is
counted is what is sent.
"""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.errors import ClusterError

# As in .gitignore: hidden files (.git, .venv, .env, caches), what is built, data and outputs, keys.
EXCLUDED = (
    ".?*",
    "__pycache__",
    "*.egg-info",
    "/build",
    "/dist",
    "venv",
    "node_modules",
    "/data",
    "/runs",
    "/outputs",
    "/mlruns",
    "*.pem",
    "*.key",
)
_FILE_OVERHEAD = 300  # bytes that a file of the package takes beside its content
_LARGEST = 3  # folders that are named where it is too much


@dataclass(frozen=True)
class Upload:
    """The files of a folder that go along: size in bytes by path relative to `root`."""

    root: Path
    excluded: tuple[str, ...]
    sizes: Mapping[Path, int]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(self.sizes.values())

    def holds(self, file: Path) -> bool:
        """Whether a file is among them, by its name or by that of the file that it is a link to."""
        names, root = (file.parent.resolve() / file.name, file.resolve()), self.root.resolve()
        return any(path.is_relative_to(root) and path.relative_to(root) in self.sizes for path in names)

    def __str__(self) -> str:
        return f"{self.root} ({len(self.sizes)} files, {_mb(self.size)})"


def look_at(root: Path, without: Sequence[Path] = ()) -> Upload:
    """The files of a folder that a job would take along, left out what `.gitignore` and `.rayignore` name, and more.

    `without` are further folders that stay, where they lie below it. ClusterError where a folder cannot be read, and
    for more than Ray takes, with the largest folders.
    """
    from ray._private.runtime_env import packaging

    root = root.absolute()
    own = [f"/{path.relative_to(root).as_posix()}" for path in without if _is_inside(path, root)]
    excluded = (*EXCLUDED, *own)
    sizes: dict[Path, int] = {}

    def add(path: Path) -> None:
        if path.is_file():
            sizes[path.relative_to(root)] = path.stat().st_size

    rules = packaging._get_excludes(root, list(excluded))
    silent = logging.getLogger(f"{__name__}.walk")
    silent.setLevel(logging.CRITICAL)
    try:
        packaging._dir_travel(root, [rules], add, include_gitignore=_heeds_gitignore(), logger=silent)
    except OSError as error:
        raise ClusterError(f"{error.filename or root}: cannot be read for the upload: {error.strerror}") from None
    upload = Upload(root, excluded, sizes)
    _refuse_large(upload)
    return upload


def _refuse_large(upload: Upload) -> None:
    limit = limit_bytes()
    if upload.size + _FILE_OVERHEAD * len(upload.sizes) < limit:
        return
    by_folder: Counter[str] = Counter()
    for path, size in upload.sizes.items():
        by_folder["/".join(path.parts[:-1][:2]) or "its own files"] += size
    largest = ", ".join(f"{folder} {_mb(size)}" for folder, size in by_folder.most_common(_LARGEST))
    raise ClusterError(
        f"{upload.root}: {_mb(upload.size)} in {len(upload.sizes)} files would be uploaded, Ray takes "
        f"{_mb(limit)} (most is in: {largest}); name what is not needed in a .rayignore, which is written like a "
        ".gitignore, and leave data where the cluster's nodes see them (ALTFORMER_DATA)"
    )


def limit_bytes() -> int:
    """The largest package that Ray's dashboard and its store take."""
    from ray._private.ray_constants import DASHBOARD_CLIENT_MAX_SIZE
    from ray._private.runtime_env.packaging import GCS_STORAGE_MAX_SIZE

    return int(min(DASHBOARD_CLIENT_MAX_SIZE, GCS_STORAGE_MAX_SIZE))


def _heeds_gitignore() -> bool:
    """As Ray's own client decides it."""
    return os.environ.get("RAY_RUNTIME_ENV_IGNORE_GITIGNORE", "0") != "1"


def _is_inside(path: Path, root: Path) -> bool:
    return path.is_relative_to(root) and path != root


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
