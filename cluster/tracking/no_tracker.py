"""The tracker that records nothing, which is also the interface of the one that does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from cluster.work import Listener, Work

#: A local file or folder, and the folder inside the run to put it in ("" for the top; a folder's contents go there).
Artifact = tuple[str | Path, str]
#: Artifacts, or what lists (and perhaps draws) them when called in a thread of the tracker's.
Artifacts = Iterable[Artifact] | Callable[[], Iterable[Artifact]]

#: The key of the matrix's own run among those of its cells.
PARENT = ""


@dataclass(frozen=True)
class MatrixRun:
    """The parent run of a matrix: `key` identifies it from one start to the next, `name` is for people.

    MLflow never changes a param: what may differ between two starts of one matrix belongs into `tags`.
    """

    key: str
    name: str
    params: Mapping[str, Any] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)


class NoTracker(Listener):
    """Records nothing: the tracker for a run without MLflow."""

    @property
    def problem(self) -> str | None:
        """There is none."""
        return None

    def record_finished(
        self,
        work: Work,
        curve: Sequence[Mapping[str, Any]],
        final_metrics: Mapping[str, Any] | None = None,
        status: str = "done",
        *,
        artifacts: Artifacts = (),
        reused_from: str | None = None,
        started: float | None = None,
        ended: float | None = None,
    ) -> None:
        """Record nothing."""

    def record_matrix(
        self,
        *,
        metrics: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        artifacts: Artifacts = (),
        step: int = 0,
        done: bool = False,
    ) -> None:
        """Record nothing."""

    def run_id(self, key: str) -> str | None:
        """There is no run."""
        return None

    def url(self, key: str = PARENT) -> str | None:
        """There is no page."""
        return None

    def flush(self, timeout: float = 30.0) -> bool:
        """Nothing is waiting."""
        return True

    def close(self, timeout: float = 30.0) -> bool:
        """Nothing is waiting."""
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
