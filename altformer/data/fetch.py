"""Getting a known data set from its public places: complete and verified, or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from altformer.data.datasets import data_dir, find_file, load_known_file, ways_out
from altformer.data.download import DownloadError, NoConnectionError, Patience, download, host, progress
from altformer.data.graph import read_graph, read_sensor_ids
from altformer.data.identity import record_hash
from altformer.data.specs import SIMULATED, SPECS, DatasetSpec, Source
from altformer.data.traffic import TrafficData
from altformer.data.window_parquet import join_windows
from altformer.errors import UserError, unknown_name

PREFERRED = "METR-LA"  # what `--dataset auto` takes where it can be had


@dataclass(frozen=True)
class Fetched:
    """Where the data set lies now, the host it came from (None: it was there already), and what is worth saying."""

    path: Path
    graph: Path | None
    origin: str | None
    notes: tuple[str, ...]


@dataclass
class _Attempt:
    """The public places of one data set, tried into a temporary folder; reasons collects why places failed."""

    spec: DatasetSpec
    folder: Path
    patience: Patience
    reasons: list[str] = field(default_factory=list)
    silent_hosts: set[str] = field(default_factory=set)

    def obtain(self, source: Source) -> Path | None:
        """The source's file in the folder, in a form our readers take; None, with a reason, when it cannot be had."""
        server = host(source.urls[0])
        if server in self.silent_hosts:
            return None
        try:
            parts = [self._part(url, number, source.file) for number, url in enumerate(source.urls)]
            return FORMS[source.form](self, parts, self.folder / source.file)
        except NoConnectionError as error:
            self.silent_hosts.add(server)
            self.refuse(source, error)
        except (DownloadError, UserError) as error:
            self.refuse(source, error)
        except OSError as error:
            raise UserError(f"cannot write to {self.folder.parent}: {error.strerror}") from None
        return None

    def _part(self, url: str, number: int, label: str) -> Path:
        part = self.folder / f"{label}.part-{number}"
        with progress(f"{label} from {host(url)}") as advance:
            download(url, part, self.patience, advance)
        return part

    def first(self, sources: tuple[Source, ...]) -> Path | None:
        """The first of the sources that can be had."""
        return next((path for source in sources if (path := self.obtain(source))), None)

    def refuse(self, source: Source, error: Exception) -> None:
        """Note why a source is of no use."""
        self.reasons.append(f"{host(source.urls[0])}: {str(error).replace(str(self.folder) + os.sep, '')}")


def fetch(name: str, folder: Path | None = None, patience: Patience | None = None) -> Fetched:
    """Make sure that the data set lies in the data directory, fetching what is absent from its public places.

    Shape, time axis and, where it is known, the content hash are verified before anything gets its final name. Raises
    UserError with the reason of every place and the ways on, and leaves nothing behind, when no place gives the
    readings; without a road graph the data set is still of use, and a note says so.
    """
    if name not in SPECS:
        raise unknown_name("data set to fetch", name, SPECS)
    spec, folder = SPECS[name], folder or data_dir()
    present = find_file(name, spec.files, folder)
    if present is not None:
        graph = find_file(name, spec.graph_files, folder)
        load_known_file(name, present, graph)
        if graph is not None:
            return Fetched(present, graph, None, ())
    target = present.parent if present else folder / name
    new_folder = not target.exists()
    try:
        target.mkdir(parents=True, exist_ok=True)
        temporary = tempfile.TemporaryDirectory(prefix=".fetch-", dir=target)  # same file system: moving is atomic
    except OSError as error:
        if present:
            return Fetched(present, None, None, (f"no road graph, and {target} cannot be written to",))
        raise UserError(f"{name}: cannot write to {target}: {error.strerror}\n{ways_out(name, folder)}") from None
    try:
        with temporary:
            attempt = _Attempt(spec, Path(temporary.name), patience or Patience())
            return _add_graph(name, attempt, present) if present else _install(name, attempt, target)
    except BaseException:
        if new_folder:
            with contextlib.suppress(OSError):
                target.rmdir()
        raise


def resolve_auto(folder: Path, patience: Patience | None = None) -> tuple[str, str]:
    """The data set that `auto` takes and the sentence that says why, for the user: METR-LA where it can be had.

    Only `auto` is ever resolved; a data set that was named is used or refused. A METR-LA file that is there but wrong
    raises UserError when it is loaded: it is not passed over.
    """
    path = find_file(PREFERRED, SPECS[PREFERRED].files, folder)
    if path is not None:
        return PREFERRED, f"Data set: {PREFERRED} (auto: found {path})."
    try:
        origin = fetch(PREFERRED, folder, patience).origin
    except UserError:
        return SIMULATED, (
            f"Data set: {SIMULATED} (auto: {PREFERRED} is neither in {folder} nor could it be fetched; "
            f"altformer data fetch {PREFERRED} says why)."
        )
    return PREFERRED, f"Data set: {PREFERRED} (auto: fetched from {origin})."


def _install(name: str, attempt: _Attempt, target: Path) -> Fetched:
    for source in attempt.spec.sources:
        path = attempt.obtain(source)
        if path is None:
            continue
        try:
            data = load_known_file(name, path, None, remember=False)
        except UserError as error:
            attempt.refuse(source, error)
            continue
        return _keep(attempt, path, data, target, host(source.urls[0]))
    reasons = "\n".join(f"  - {reason}" for reason in attempt.reasons)
    raise UserError(f"{name} could not be fetched:\n{reasons}\n{ways_out(name, target.parent)}")


def _keep(attempt: _Attempt, path: Path, data: TrafficData, target: Path, origin: str) -> Fetched:
    ids = attempt.first(attempt.spec.id_sources)
    graph, notes = _graph(attempt, read_sensor_ids(ids) if ids else data.sensor_ids)
    for file in (ids, graph, path):  # the readings last: once they are there, all is
        if file is not None:
            file.replace(target / file.name)
    if attempt.spec.content_hash is None:
        record_hash(target / path.name, data.content_hash)
        notes += (f"no hash is known beforehand; remembered {data.content_hash}",)
    return Fetched(target / path.name, target / graph.name if graph else None, origin, notes)


def _add_graph(name: str, attempt: _Attempt, present: Path) -> Fetched:
    graph, notes = _graph(attempt, load_known_file(name, present, None).sensor_ids)
    return Fetched(present, graph.replace(present.parent / graph.name) if graph else None, None, notes)


def _graph(attempt: _Attempt, sensor_ids: tuple[str, ...]) -> tuple[Path | None, tuple[str, ...]]:
    """The road graph in the temporary folder, if one that fits the sensors can be had, else a note that says why."""
    for source in attempt.spec.graph_sources:
        path = attempt.obtain(source)
        try:
            if path is not None:
                read_graph(path, sensor_ids)
                return path, ()
        except UserError as error:
            attempt.refuse(source, error)
    return None, (f"without its road graph: {attempt.reasons[-1] if attempt.reasons else 'no public place is known'}",)


def _as_it_is(_attempt: _Attempt, parts: list[Path], target: Path) -> Path:
    return parts[0].replace(target)


def _from_zip(attempt: _Attempt, parts: list[Path], target: Path) -> Path:
    try:
        with zipfile.ZipFile(parts[0]) as archive:
            member = next((info for info in archive.infolist() if Path(info.filename).name in attempt.spec.files), None)
            if member is None or member.file_size > attempt.patience.most_bytes:
                raise UserError(f"the archive holds none of {', '.join(attempt.spec.files)}")
            with archive.open(member) as packed, target.open("wb") as file:
                shutil.copyfileobj(packed, file)
    except zipfile.BadZipFile as error:
        raise UserError(f"not a zip archive: {error}") from None
    return target


def _from_windows(attempt: _Attempt, parts: list[Path], target: Path) -> Path:
    join_windows(parts, attempt.first(attempt.spec.graph_sources), target)  # the graph knows the order of the sensors
    return target


FORMS: dict[str, Callable[[_Attempt, list[Path], Path], Path]] = {
    "file": _as_it_is,
    "zip": _from_zip,
    "windows": _from_windows,
}
