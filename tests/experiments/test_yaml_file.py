from __future__ import annotations

import pytest

from altformer.errors import UserError
from experiments.yaml_file import read_yaml

BROKEN = {
    "not closed": ("a: [1, 2", ":1: broken YAML"),
    "tab": ("a:\n\t- 1\n", ":2: broken YAML"),
    "twice": ("a: 1\nb: 2\na: 3\n", ":3: key 'a' is given twice"),
    "twice below": ("m:\n  a: 1\n  a: 2\n", ":3: key 'a' is given twice"),
    "list": ("- 1\n- 2\n", "must hold 'key: value' lines, got a list"),
    "object tag": ("a: !!python/object/apply:os.system ['touch HERE']\n", ":1: broken YAML"),
    "python tag": ("!!python/name:os.system\n", "broken YAML"),
    "key no text": ("? [1, 2]\n: 3\n", ":1: a key must be plain text"),
    "binary": ("\x00\x01", "broken YAML"),
}


@pytest.mark.parametrize(("text", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_files_are_refused_with_the_place(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=message) as caught:
        read_yaml(path)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "HERE").exists()


def test_a_huge_file_is_refused_unread(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("a: 1\n" + "#" * 10_000_000)
    with pytest.raises(UserError, match="larger than 1 MB"):
        read_yaml(path)


def test_missing_file(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml")


def test_lines_of_keys(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("# comment\nmodel:\n  embed_dim: 8\n\nseed: 1\n")
    assert read_yaml(path) == (
        {"model": {"embed_dim": 8}, "seed": 1},
        {"model": 2, "model.embed_dim": 3, "seed": 5},
    )


def test_an_empty_file_is_an_empty_mapping(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("# nothing\n")
    assert read_yaml(path) == ({}, {})
