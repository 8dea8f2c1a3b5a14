"""What of a project a job takes along: what it needs, nothing secret, nothing large."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from cluster.errors import ClusterError
from cluster.job_upload import limit_bytes, look_at

TAKEN = ("pyproject.toml", "ablations/mine.yaml", "altformer/data/specs.py", "altformer/build/model.py", "my.csv")
LEFT = (
    ".git/config",
    ".venv/bin/python",
    "venv/bin/python",
    ".env",
    ".ray/auth_token",
    "sub/.netrc",
    "server.key",
    "sub/certificate.pem",
    "data/METR-LA/metr-la.h5",
    "runs/mlflow.db",
    "mlruns/0/meta.yaml",
    "altformer/__pycache__/specs.pyc",
    "altformer.egg-info/PKG-INFO",
    "build/lib/x.py",
    "dist/x.whl",
    "ignored/by-git.txt",
    "sub/scratch/by-ray.txt",
    "measurements/given.npz",
)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name in (*TAKEN, *LEFT):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{name}\n" * 3)
    (tmp_path / ".gitignore").write_text("/ignored/\n")
    (tmp_path / "sub" / ".rayignore").write_text("scratch\n")
    return tmp_path


def test_sources_and_settings_go_along_data_outputs_and_secrets_do_not(project):
    upload = look_at(project, [project / "measurements", Path("/elsewhere")])
    assert {path.as_posix() for path in upload.sizes} == set(TAKEN)
    assert upload.size == sum((project / name).stat().st_size for name in TAKEN)
    assert str(upload) == f"{project} (5 files, 0.0 MB)"


def test_ray_packs_what_was_looked_at(project, tmp_path_factory):
    """By the way that Ray's client goes."""
    from ray._private.runtime_env.packaging import create_package

    upload, package = look_at(project, [project / "measurements"]), tmp_path_factory.mktemp("packed") / "package.zip"
    create_package(str(project), package, include_gitignore=True, excludes=list(upload.excluded))
    packed = {name for name in zipfile.ZipFile(package).namelist() if not name.endswith("/")}
    assert packed == {path.as_posix() for path in upload.sizes}
    assert package.stat().st_size < upload.size + 300 * len(upload.sizes)


def test_whether_a_file_goes_along(project):
    upload = look_at(project)
    assert upload.holds(project / "ablations" / ".." / "ablations" / "mine.yaml")
    (project / "linked.yaml").symlink_to("/etc/hostname")
    assert look_at(project).holds(project / "linked.yaml"), "its content is sent"
    assert not upload.holds(project / ".env") and not upload.holds(Path("/etc/hostname"))


def test_more_than_ray_takes_is_refused_with_the_largest_folders(project, monkeypatch):
    assert limit_bytes() == 100 * 2**20, "what Ray's dashboard takes of a request"
    (project / "sub" / "large.bin").write_bytes(bytes(40_000))
    (project / "altformer" / "data" / "big.bin").write_bytes(bytes(20_000))
    monkeypatch.setattr("cluster.job_upload.limit_bytes", lambda: 50_000)
    with pytest.raises(ClusterError) as refused:
        look_at(project)
    assert "0.1 MB in 8 files would be uploaded, Ray takes 0.1 MB" in str(refused.value)
    assert "(most is in: sub 0.0 MB, altformer/data 0.0 MB, " in str(refused.value)
    assert ".rayignore" in str(refused.value)


def test_a_folder_that_cannot_be_read_is_named(project, monkeypatch):
    def refuse(self: Path) -> None:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(ClusterError, match=f"{project}: cannot be read for the upload: Permission denied"):
        look_at(project)
