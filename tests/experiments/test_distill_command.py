from __future__ import annotations

import errno
import json
import os
import shlex
import shutil

import pytest

from experiments.cell import read_record
from experiments.cli import main
from experiments.runs import find_run

STUDENT = [
    "--embed_dim",
    "4",
    "--num_heads",
    "2",
    "--patch_len",
    "6",
    "--steps_per_epoch",
    "3",
    "--epochs",
    "2",
    "--batch_size",
    "8",
    "--lr",
    "0.003",
]


def distill(out, *arguments, teacher="seed0", student="alternating"):
    machine = ["--threads", "1", "--device", "cpu"]
    return main(["distill", teacher, "--cfg", student, *STUDENT, *machine, "--out", str(out), *arguments])


@pytest.fixture
def teacher(own_out):
    return find_run("seed0", own_out)


def test_the_student_is_shown_beside_teacher_and_itself_alone(own_out, teacher, capsys):
    assert distill(own_out, "--compare", "--weight", "0.3") == 0
    printed = capsys.readouterr().out
    student = find_run("alternating-distilled", own_out)
    training = student.record["config"]["training"]
    assert training["distillation"] == {"teacher": teacher.hash, "weight": 0.3}
    [path] = (own_out / "distilled").iterdir()
    result = json.loads(path.read_text())
    alone = find_run(result["alone"]["cell_hash"], own_out)
    assert alone.record["config"] == student.record["config"] | {"training": training | {"distillation": None}}
    assert alone.record["test"] != student.record["test"]
    for role, run in {"teacher": teacher, "distilled": student, "alone": alone}.items():
        assert result[role]["test"] == run.record["test"] and result[role]["val"] == run.record["val"]
        assert f"{run.record['test']['all']['mae']:.4f}" in printed and f"{run.record['params']:,}" in printed
    assert student.record["params"] < teacher.record["params"]
    assert student.record["config"]["dataset"] == teacher.record["config"]["dataset"], "the teacher's, where not said"


def test_the_same_student_alone_is_found_where_it_was_trained(own_out, capsys):
    assert distill(own_out) == 0
    assert "--compare also trains the same student" in capsys.readouterr().out
    assert distill(own_out, "--compare") == 0
    capsys.readouterr()
    assert distill(own_out) == 0
    printed = capsys.readouterr().out
    assert "this very run is finished" in printed and "--compare" not in printed


def test_a_teacher_scored_on_other_windows_is_scored_anew_on_the_students(own_out, teacher):
    assert distill(own_out, "--test_stride", "7") == 0
    [path] = (own_out / "distilled").iterdir()
    result = json.loads(path.read_text())
    assert result["teacher"]["test"]["windows"] == result["distilled"]["test"]["windows"]
    assert result["teacher"]["test"] != teacher.record["test"] and result["teacher"]["val"] == teacher.record["val"]


def test_the_recorded_command_repeats_a_distilled_cell(own_out, tmp_path, monkeypatch, capsys):
    assert distill(own_out, "--weight", "0.8", "--test_stride", "7") == 0
    student = find_run("alternating-distilled", own_out)
    monkeypatch.chdir(tmp_path)
    name, *command = shlex.split(student.record["provenance"]["repeat"])
    assert name == "altformer" and command[0] == "distill" and main(command) == 0
    again = read_record(tmp_path / "repeat" / "cells" / student.hash)
    assert again is not None, "the same cell, with the teacher brought along"
    assert (
        again["test"] == student.record["test"]
        and again["provenance"]["started"] >= student.record["provenance"]["ended"]
    )
    copied = tmp_path / "repeat" / "cells" / student.config.training.distillation.teacher
    assert (copied / "record.json").is_file() and not list(copied.parent.glob(".*"))


@pytest.mark.parametrize(
    ("arguments", "teacher", "message"),
    [
        (["--weight", "1.5"], "seed0", "--weight must be 0 to 1, got 1.5"),
        ([], "seed", "unknown run 'seed'; did you mean 'seed"),
        (["--dataset", "simulated", "--set", "sensors=9"], "seed0", "trained on 8 sensors, these data have 9"),
        (["--input_len", "24"], "seed0", "trained with input_len 12, these data have 24"),
        (["--days", "9"], "seed0", "scales readings by"),
        (["--lrr", "1"], "seed0", "unknown field 'lrr'; did you mean 'lr'"),
    ],
)
def test_mistakes_are_one_message_and_code_2(own_out, capsys, arguments, teacher, message):
    assert distill(own_out, *arguments, teacher=teacher) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error and not (own_out / "distilled").exists()


def test_a_student_of_another_data_set_is_told_how_to_take_the_teachers(own_out, teacher, capsys):
    arguments = ["distill", teacher.hash, "--cfg", "METR-LA_alternating", "--out", str(own_out), "--device", "cpu"]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert "the teacher was trained on simulated; add --dataset simulated" in error


def test_an_unfinished_cell_in_the_teachers_place_is_left_alone(own_out, teacher, tmp_path, capsys):
    there = tmp_path / "other" / "cells" / teacher.hash
    shutil.copytree(teacher.folder, there)
    (there / "record.json").unlink()
    assert distill(tmp_path / "other", teacher=str(teacher.folder)) == 2
    assert "has no record.json of a finished run" in capsys.readouterr().err and (there / "checkpoints").is_dir()


def test_a_full_disk_while_the_teacher_is_copied_is_one_message(own_out, teacher, tmp_path, capsys, monkeypatch):
    def no_space(source, target):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("experiments.distill_command.shutil.copy2", no_space)
    assert distill(tmp_path / "other", teacher=str(teacher.folder)) == 1
    assert capsys.readouterr().err.startswith("altformer: disk full: no space left in ")
    assert not list((tmp_path / "other").glob("cells/*"))
