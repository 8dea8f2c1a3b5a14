"""The folder that a submitted matrix takes along, and how its files are called there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from ablations.matrix import ALL, PACKAGE, Matrix, matrix_file
from altformer.errors import UserError
from cluster.job_upload import Upload
from experiments.compose import HERE, find_experiment
from experiments.yaml_file import read_yaml

MARK = "pyproject.toml"


def project_of(matrices: Sequence[Matrix]) -> Path | None:
    """The folder with a pyproject.toml around the matrix files, else the current one.

    Shipped matrices go along with the checkout that they are part of; where altformer is installed without one there
    is nothing to take along (None). UserError for files of two projects, and where a whole home would be taken.
    """
    own = [file for matrix in matrices if not is_shipped(file := file_of(matrix))]
    if not own:
        return PACKAGE.parent if (PACKAGE.parent / MARK).is_file() else None
    roots = sorted({_project_around(file.resolve()) for file in own})
    if len(roots) > 1:
        raise UserError(f"the matrices are of {len(roots)} projects ({', '.join(map(str, roots))}); submit each alone")
    if Path.home().resolve().is_relative_to(roots[0]):
        raise UserError(f"{roots[0]} would be taken along as a whole; put {own[0].name} into a folder of its own")
    return roots[0]


def check_taken_along(matrices: Sequence[Matrix], data: Sequence[Path], upload: Upload) -> None:
    """UserError for a file that is needed and does not go along: it lies outside, or an ignore file names it.

    The user's own data may lie outside, where the cluster sees them too.
    """
    root = upload.root.resolve()
    yaml = [file for matrix in matrices for file in (file_of(matrix), *_experiments(matrix.base_file))]
    if not upload.holds(PACKAGE / "__init__.py"):  # what is shipped is there anyway
        yaml = [file for file in yaml if file.resolve().parent not in (PACKAGE.resolve(), HERE.resolve())]
    for file in [*yaml, *(file for file in data if file.resolve().is_relative_to(root))]:
        if not upload.holds(file):
            raise UserError(
                f"{file} is needed, and does not go along with {upload.root}: it lies elsewhere, or is ignored there "
                "(.gitignore, .rayignore, hidden, data/, outputs); own data can be named by an absolute path that the "
                "cluster sees"
            )


def _experiments(file: Path) -> Iterator[Path]:
    """An experiment's file, and those that it is based on; none of them names itself, as has been checked."""
    following: Path | None = file
    while following is not None:
        yield following
        base = read_yaml(following)[0].get("base")
        following = find_experiment(str(base), beside=following.parent) if base is not None else None


def name_there(given: str, upload: Upload | None) -> str:
    """What ``altformer ablate`` takes in the uploaded folder for a matrix that was given so here."""
    if given == ALL:
        return ALL
    file = matrix_file(given)
    if upload is None or is_shipped(file):
        return file.stem
    return f"./{file.resolve().relative_to(upload.root.resolve()).as_posix()}"


def file_of(matrix: Matrix) -> Path:
    """The file that a matrix was read from."""
    assert matrix.file is not None
    return matrix.file


def is_shipped(file: Path) -> bool:
    """Whether a matrix file comes with the package, so that it goes by its name everywhere."""
    return file.resolve().parent == PACKAGE.resolve()


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
