"""The folder that a submitted matrix or tuning plan takes along, and how its files are called there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ablations.matrix import PACKAGE
from altformer.errors import UserError
from cluster.job_upload import Upload
from experiments.compose import HERE, find_experiment
from experiments.yaml_file import read_yaml

MARK = "pyproject.toml"


def project_of(files: Sequence[Path]) -> Path | None:
    """The folder with a pyproject.toml around the files of matrices or of a plan, else the current one.

    Shipped ones go along with the checkout that they are part of; where altformer is installed without one there is
    nothing to take along (None). UserError for files of two projects, and where a whole home would be taken.
    """
    own = [file for file in files if not _is_shipped(file)]
    if not own:
        return PACKAGE.parent if (PACKAGE.parent / MARK).is_file() else None
    roots = sorted({_project_around(file.resolve()) for file in own})
    if len(roots) > 1:
        raise UserError(f"the files are of {len(roots)} projects ({', '.join(map(str, roots))}); submit each alone")
    if Path.home().resolve().is_relative_to(roots[0]):
        raise UserError(f"{roots[0]} would be taken along as a whole; put {own[0].name} into a folder of its own")
    return roots[0]


def check_taken_along(files: Sequence[Path], data: Sequence[Path], upload: Upload) -> None:
    """UserError for a file that is needed and does not go along: it lies outside, or an ignore file names it.

    The user's own data may lie outside, where the cluster sees them too.
    """
    root = upload.root.resolve()
    yaml = [needed for file in files for needed in _based_on(file)]
    if not upload.holds(PACKAGE / "__init__.py"):  # what is shipped is there anyway
        yaml = [file for file in yaml if not _is_shipped(file)]
    for file in [*yaml, *(file for file in data if file.resolve().is_relative_to(root))]:
        if not upload.holds(file):
            raise UserError(
                f"{file} is needed, and does not go along with {upload.root}: it lies elsewhere, or is ignored there "
                "(.gitignore, .rayignore, hidden, data/, outputs); own data can be named by an absolute path that the "
                "cluster sees"
            )


def _based_on(file: Path) -> Iterator[Path]:
    """A file, and the experiments that it is based on; none of them names itself, as has been checked."""
    following: Path | None = file
    while following is not None:
        yield following
        base = read_yaml(following)[0].get("base")
        following = find_experiment(str(base), beside=following.parent) if base is not None else None


def name_there(file: Path, shipped: Path, upload: Upload | None) -> str:
    """What a file is called in the uploaded folder; one of the folder `shipped` goes by its name everywhere."""
    if upload is None or file.resolve().parent == shipped.resolve():
        return file.stem
    return f"./{file.resolve().relative_to(upload.root.resolve()).as_posix()}"


def _is_shipped(file: Path) -> bool:
    return file.resolve().parent in (PACKAGE.resolve(), HERE.resolve())


def _project_around(file: Path) -> Path:
    marked = next((at for at in file.parents if (at / MARK).is_file()), None)
    if marked is not None:
        return marked
    current = Path.cwd().resolve()
    if not file.is_relative_to(current):
        raise UserError(
            f"{file}: no folder above it has a {MARK}, and it is not below the current one; go to the folder that the "
            "job shall take along"
        )
    return current
