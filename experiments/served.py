"""A trained cell as an MLflow model: a folder with its checkpoint and the sources that read it, and no pickle."""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from altformer.errors import UserError
from cluster.tracking.location import SETTINGS
from experiments.provenance import ROOT
from experiments.runs import Run

FILES = ("config.json", "data.json", "model.safetensors", "sums.json")
REQUIRED = ("torch", "numpy", "pandas", "pydantic", "safetensors", "h5py", "pyarrow", "requests", "urllib3")
MODEL_FILE = Path(__file__).with_name("served_model.py")


def write_model(run: Run, folder: Path) -> None:
    """Write the MLflow model of a run's best checkpoint into a new folder; UserError for a damaged checkpoint."""
    from altformer.loaded import load_model

    for name, value in {**SETTINGS, "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}.items():
        os.environ.setdefault(name, value)
    import mlflow.pyfunc

    # Says that no signature is known: with one MLflow would drop unknown sensors in silence and refuse whole numbers.
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    loaded = load_model(run.folder)
    checkpoint = folder.with_name(f"{folder.name}-checkpoint")
    checkpoint.mkdir(parents=True)
    for name in FILES:
        shutil.copy2(loaded.folder / name, checkpoint / name)
    try:
        mlflow.pyfunc.save_model(
            str(folder),
            python_model=str(MODEL_FILE),
            artifacts={"checkpoint": str(checkpoint)},
            code_paths=[str(path) for path in _sources(run)],
            pip_requirements=_requirements(),
        )
    finally:
        shutil.rmtree(checkpoint)


def tags_of(run: Run) -> dict[str, str]:
    """What a version says of where it comes from."""
    record = run.record
    given = {
        key: record.get(key) for key in ("seed", "dataset", "data_hash", "profile", "sources", "best_epoch", "params")
    }
    scores = {f"{part}_mae": found["mae"] for part in ("val", "test") if (found := (record.get(part) or {}).get("all"))}
    commit = (record.get("provenance") or {}).get("git_commit")
    tags = {"cell_hash": run.hash, **given, **scores, "git_commit": commit}
    return {key: str(value) for key, value in tags.items() if value is not None}


def _sources(run: Run) -> list[Path]:
    """The package that reads the checkpoint and, for a user's own model, the module or package that defines it."""
    config = run.config
    if config.model.type != "own":
        return [ROOT]
    top = config.model.class_path.partition(":")[0].partition(".")[0]
    spec = importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        raise UserError(f"model.class: cannot find '{top}'; is it installed, or its folder in PYTHONPATH?")
    places = list(spec.submodule_search_locations or [])
    return [ROOT, Path(places[0] if places else spec.origin)]


def _requirements() -> list[str]:
    """The packages that the sources import, as they are here; a local label such as +cpu is on no index."""
    found = []
    for package in REQUIRED:
        try:
            found.append(f"{package}=={version(package).partition('+')[0]}")
        except PackageNotFoundError:
            continue
    return found
