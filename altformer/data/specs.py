"""The known data sets: one entry for each that is read from a file, and the name of the one that is made up."""

from __future__ import annotations

from dataclasses import dataclass

SIMULATED = "simulated"  # made up, see simulated.py

_SPEED_SPLIT = (0.7, 0.1, 0.2)
_FLOW_SPLIT = (0.6, 0.2, 0.2)


@dataclass(frozen=True)
class Source:
    """A public place of a file: the addresses of its parts, the name to keep it under, and the form it comes in."""

    urls: tuple[str, ...]
    file: str
    form: str = "file"  # a key of fetch.FORMS


@dataclass(frozen=True)
class DatasetSpec:
    """What is known of a data set before its file is read.

    shape is (rows, sensors); absent_steps are the steps its time axis jumps over; files, graph_files and id_files are
    the names under which readings, road graph and list of sensors are found, in `<data dir>/<name>/` or
    `<data dir>/`; the sources of each are tried in order.
    """

    shape: tuple[int, int]
    start: str
    split: tuple[float, float, float]
    unit: str
    files: tuple[str, ...]
    graph_files: tuple[str, ...]
    id_files: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()
    graph_sources: tuple[Source, ...] = ()
    id_sources: tuple[Source, ...] = ()
    step_minutes: int = 5
    null_value: float = 0.0
    absent_steps: int = 0
    content_hash: str | None = None


_DCRNN = "https://raw.githubusercontent.com/liyaguang/DCRNN/master/data/sensor_graph"
_SPEEDS = "https://zenodo.org/records/5146275/files"
_WINDOWS = "https://huggingface.co/datasets/witgaw/METR-LA/resolve/main"
_BAY = "https://zenodo.org/records/4263971/files"
_FLOWS = "https://zenodo.org/records/7816008/files"
_FLOWS_COPY = "https://huggingface.co/datasets/pkr7098/time-series-forecasting-datasets/resolve/main"


def _pems(
    number: str, shape: tuple[int, int], start: str, *, names_stations: bool = False, content_hash: str | None = None
) -> DatasetSpec:
    name = f"PEMS{number}"
    stations = f"{name}.txt"
    return DatasetSpec(
        shape=shape,
        start=start,
        split=_FLOW_SPLIT,
        unit="vehicles per 5 minutes",
        files=(f"{name}.npz", f"{name.lower()}.npz"),
        graph_files=(f"{name}.csv", f"{name.lower()}.csv"),
        id_files=(stations,) if names_stations else (),
        sources=tuple(Source((f"{base}/{name}.npz",), f"{name}.npz") for base in (_FLOWS, _FLOWS_COPY)),
        graph_sources=(Source((f"{_FLOWS}/{name}.csv",), f"{name}.csv"),),
        id_sources=(Source((f"{_FLOWS}/{stations}",), stations),) if names_stations else (),
        content_hash=content_hash,
    )


SPECS: dict[str, DatasetSpec] = {
    "METR-LA": DatasetSpec(
        shape=(34272, 207),
        start="2012-03-01T00:00",
        split=_SPEED_SPLIT,
        unit="mph",
        files=("metr-la.h5", "metr_la.h5", "METR-LA.h5", "METR-LA.csv", "METR-LA.parquet"),
        graph_files=("adj_mx.pkl", "adj_METR-LA.pkl"),
        sources=(
            Source((f"{_SPEEDS}/METR-LA.csv",), "METR-LA.csv"),
            Source(("https://drive.switch.ch/index.php/s/Z8cKHAVyiDqkzaG/download",), "metr-la.h5", form="zip"),
            Source(
                tuple(f"{_WINDOWS}/{part}.parquet" for part in ("train", "val", "test")),
                "METR-LA.parquet",
                form="windows",
            ),
        ),
        graph_sources=(Source((f"{_DCRNN}/adj_mx.pkl",), "adj_mx.pkl"),),
        content_hash="eaec505856cd272eb3de2dfe8add003b5530f03865a57383ebe4160545c2e6ef",
    ),
    "PEMS-BAY": DatasetSpec(
        shape=(52116, 325),
        start="2017-01-01T00:00",
        split=_SPEED_SPLIT,
        unit="mph",
        files=("pems-bay.h5", "pems_bay.h5", "PEMS-BAY.h5", "PEMS-BAY.csv", "PEMS-BAY.parquet"),
        graph_files=("adj_mx_bay.pkl", "adj_PEMS-BAY.pkl"),
        sources=(
            Source((f"{_BAY}/pems-bay.h5",), "pems-bay.h5"),
            Source((f"{_SPEEDS}/PEMS-BAY.csv",), "PEMS-BAY.csv"),
        ),
        graph_sources=(Source((f"{_DCRNN}/adj_mx_bay.pkl",), "adj_mx_bay.pkl"),),
        absent_steps=12,  # the hour that daylight saving skips on 2017-03-12
    ),
    "PEMS03": _pems("03", (26208, 358), "2018-09-01T00:00", names_stations=True),
    "PEMS04": _pems("04", (16992, 307), "2018-01-01T00:00"),
    "PEMS07": _pems("07", (28224, 883), "2017-05-01T00:00"),
    "PEMS08": _pems(
        "08",
        (17856, 170),
        "2016-07-01T00:00",
        content_hash="ad97a3c8bae98f30072eca52260aa176a295f8d79ca78f618825ab9d5985de81",
    ),
}
