"""Checkpoints that were damaged, and disks that are full: the numbers of an undisturbed run, or a clear end."""

from __future__ import annotations

import errno
import os
import shutil
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from altformer import files
from altformer.files import DiskFullError, write_folder, write_json
from altformer.train import train
from altformer.training.context import BareContext

FILES = ("config.json", "data.json", "model.safetensors", "progress.json", "state.pt", "sums.json")


class Leaving(BareContext):
    """Leaves after so many epochs."""

    def __init__(self, after):
        super().__init__()
        self.after, self.epochs = after, []

    def report(self, metrics):
        self.epochs.append(metrics["epoch"])

    def should_stop(self):
        return "interrupted" if len(self.epochs) == self.after else None


def numbers(result):
    times = {"epoch_seconds", "samples_per_second"}
    curve = [{name: value for name, value in epoch.items() if name not in times} for epoch in result.curve]
    return curve, result.best_epoch, result.val, result.test


@pytest.fixture(scope="module")
def short(tiny):
    """Four epochs of two steps; few windows are scored."""
    training = tiny.training.model_copy(update={"steps_per_epoch": 2, "epochs": 4})
    dataset = tiny.dataset.model_copy(update={"val_stride": 4, "test_stride": 8})
    return tiny.model_copy(update={"training": training, "dataset": dataset})


@pytest.fixture(scope="module")
def undisturbed(short, traffic, tmp_path_factory):
    return numbers(train(short, traffic, BareContext(), tmp_path_factory.mktemp("whole")))


@pytest.fixture(scope="module")
def left(short, traffic, tmp_path_factory):
    """The folder of a run that left after three epochs."""
    folder = tmp_path_factory.mktemp("left")
    train(short, traffic, Leaving(3), folder)
    return folder


@pytest.fixture
def resumed(short, traffic, left, tmp_path, undisturbed):
    """Damages a copy of the folder as told, resumes, and returns the epochs that were trained then."""

    def resume(damage):
        folder = tmp_path / "copy"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(left, folder)
        damage(folder / "checkpoints")
        context = Leaving(None)
        assert numbers(train(short, traffic, context, folder)) == undisturbed
        return context.epochs

    return resume


def epochs_of(folder):
    return sorted(int(path.name[-4:]) for path in folder.glob("epoch-*"))


def test_an_undamaged_folder_goes_on_after_its_last_epoch(resumed):
    assert resumed(lambda checkpoints: None) == [4]


@pytest.mark.slow
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=st.sampled_from(FILES), place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_whatever_byte_of_the_last_checkpoint_is_changed_the_numbers_are_the_same(resumed, name, place, change):
    def flip(checkpoints):
        path = checkpoints / "epoch-0003" / name
        content = bytearray(path.read_bytes())
        content[int(place * len(content))] ^= change
        path.write_bytes(content)

    trained = resumed(flip)
    assert trained == [3, 4] or (trained == [4] and name == "sums.json")  # blanks between its sums mean nothing


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", [Path.unlink, lambda path: os.truncate(path, path.stat().st_size // 2)])
def test_every_file_counts(resumed, name, damage, caplog):
    assert resumed(lambda checkpoints: damage(checkpoints / "epoch-0003" / name)) == [3, 4]
    assert "epoch-0003 is damaged: using the one before" in caplog.text


def test_what_is_left_of_a_writing_that_died_is_not_taken_for_a_checkpoint(resumed):
    def interrupted(checkpoints):
        (checkpoints / "epoch-0003").rename(checkpoints / ".epoch-0003.new")
        (checkpoints / "epoch-0003").mkdir()

    assert resumed(interrupted) == [3, 4]


def test_a_damaged_best_epoch_is_trained_again(short, traffic, left, tmp_path, undisturbed, caplog):
    """The numbers are those of an undisturbed run however far back the last checkpoint with a whole best epoch is."""
    best = undisturbed[1]
    assert best in epochs_of(left / "checkpoints"), "the best of all four was there after three"
    folder = tmp_path / "copy"
    shutil.copytree(left, folder)
    (folder / "checkpoints" / f"epoch-{best:04d}" / "model.safetensors").write_bytes(b"damaged")
    context = Leaving(None)
    assert numbers(train(short, traffic, context, folder)) == undisturbed
    assert context.epochs[0] <= best
    assert "damaged" in caplog.text


def test_a_best_epoch_damaged_while_the_run_goes_on_is_scored_all_the_same(short, traffic, tmp_path, undisturbed):
    class Damaging(Leaving):
        def report(self, metrics):
            super().report(metrics)
            for path in tmp_path.glob("checkpoints/*/model.safetensors"):
                path.write_bytes(b"damaged")

    assert numbers(train(short, traffic, Damaging(None), tmp_path)) == undisturbed


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_leaves_what_was_there_and_nothing_unfinished(
    short, traffic, left, tmp_path, undisturbed, monkeypatch, number
):
    folder = tmp_path / "copy"
    shutil.copytree(left, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with monkeypatch.context() as full:

        def no_space(handle):
            raise OSError(number, os.strerror(number))

        full.setattr(files.os, "fsync", no_space)
        with pytest.raises(DiskFullError, match=r"disk full: no space left in .*checkpoints .*altformer gc") as raised:
            train(short, traffic, BareContext(), folder)
    assert raised.value.errno == number and isinstance(raised.value, OSError)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
    context = Leaving(None)
    assert numbers(train(short, traffic, context, folder)) == undisturbed and context.epochs == [4]


@pytest.mark.parametrize(
    ("total", "free", "fits"), [(100, 5, False), (100, 6, True), (0, 0, True)], ids=["too small", "just", "not said"]
)
def test_a_folder_that_does_not_fit_is_not_begun(tmp_path, monkeypatch, total, free, fits):
    written = []
    write = files._write
    monkeypatch.setattr(files.shutil, "disk_usage", lambda folder: SimpleNamespace(total=total, free=free))
    monkeypatch.setattr(files, "_write", lambda path, content: (written.append(path.name), write(path, content)))
    with nullcontext() if fits else pytest.raises(DiskFullError, match="no space left in"):
        write_folder(tmp_path / "epoch-0001", {"a": b"four", "b": b"12"})
    assert written == (["a", "b"] if fits else [])
    assert [path.name for path in tmp_path.iterdir()] == (["epoch-0001"] if fits else [])


def test_another_error_of_the_system_keeps_its_words(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(FileExistsError):
        write_json(tmp_path / "file" / "record.json", {})


@pytest.mark.parametrize("error", [OSError(errno.EIO, "I/O error"), KeyboardInterrupt()])
def test_a_folder_comes_back_when_its_place_is_not_taken(tmp_path, monkeypatch, error):
    folder, real = tmp_path / "epoch-0001", Path.rename
    write_folder(folder, {"a": b"old"})

    def rename(path, target):
        if path.name.endswith(".new"):
            raise error
        return real(path, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(type(error)):
        write_folder(folder, {"a": b"new"})
    assert (folder / "a").read_bytes() == b"old" and list(tmp_path.iterdir()) == [folder]


def test_a_folder_is_replaced_only_when_the_new_one_is_on_the_disk(tmp_path, monkeypatch):
    folder = tmp_path / "epoch-0001"
    write_folder(folder, {"a": b"old", "b": b"gone"})
    flushed = []
    fsync = os.fsync

    def look(handle):
        flushed.append((str(Path(f"/proc/self/fd/{handle}").readlink()), (folder / "a").read_bytes()))
        fsync(handle)

    monkeypatch.setattr(files.os, "fsync", look)
    write_folder(folder, {"a": b"new"})
    new = str(tmp_path / ".epoch-0001.new")
    assert flushed == [(f"{new}/a", b"old"), (new, b"old"), (str(tmp_path), b"new")]
    assert [path.name for path in tmp_path.iterdir()] == ["epoch-0001"]
    assert [path.name for path in folder.iterdir()] == ["a"]
