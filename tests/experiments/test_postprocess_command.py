from __future__ import annotations

import json

import pytest

from altformer.postprocess import METHODS
from experiments.cli import main


def run(out, *arguments):
    return main(["postprocess", *arguments, "--out", str(out), "--device", "cpu"])


@pytest.mark.parametrize(("method", "names"), [("kalman", ["kalman"]), ("both", list(METHODS))])
def test_scores_before_and_after_are_printed_and_written(own_out, seeds, capsys, method, names):
    assert run(own_out, "seed0", "--method", method) == 0
    [path] = (own_out / "postprocessed").iterdir()
    result = json.loads(path.read_text())
    for part in ("val", "test"):
        assert result[part]["all"] == pytest.approx(seeds[0].record[part]["all"]), "before: what the record says"
    assert [each["method"] for each in result["methods"]] == names
    printed = capsys.readouterr().out
    for each in result["methods"]:
        assert min(tried["val_error"] for tried in each["tried"]) == next(
            tried["val_error"] for tried in each["tried"] if tried["value"] == each["value"]
        )
        assert f"{each['method']}, {each['parameter']} {each['value']:g}" in printed
        assert f"{each['test']['all']['mae']:.4f}" in printed
    assert "chosen on the validation part" in printed and "not comparable" in printed


def test_an_ensemble_can_be_post_processed(own_out, capsys):
    assert main(["ensemble", "seed0", "seed1", "seed2", "--out", str(own_out), "--json", "--device", "cpu"]) == 0
    average = json.loads(capsys.readouterr().out)
    assert run(own_out, "seed0", "seed1", "seed2", "--json") == 0
    assert json.loads(capsys.readouterr().out)["test"] == average["test"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seed0", "--method", "kalmann"], "unknown method 'kalmann'; did you mean 'kalman'"),
        (["seed0", "seed1"], "an ensemble has 3 to 5 members, got 2"),
        (["nothing"], "unknown run 'nothing'"),
    ],
)
def test_mistakes_are_one_message_and_code_2(trained_out, capsys, arguments, message):
    assert run(trained_out, *arguments) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
