from __future__ import annotations

import pytest

from altformer.errors import UserError
from experiments.yaml_file import as_written, read_yaml

BROKEN = {
    "not closed": ("a: [1, 2", ":1: broken YAML"),
    "tab": ("a:\n\t- 1\n", ":2: broken YAML"),
    "twice": ("a: 1\nb: 2\na: 3\n", ":3: key 'a' is given twice"),
    "twice below": ("m:\n  a: 1\n  a: 2\n", ":3: key 'a' is given twice"),
    "list": ("- 1\n- 2\n", "must hold 'key: value' lines, got a list"),
    "object tag": ("a: !!python/object/apply:os.system ['touch HERE']\n", ":1: broken YAML"),
    "python tag": ("!!python/name:os.system\n", "broken YAML"),
    "key no text": ("? [1, 2]\n: 3\n", ":1: a key must be plain text"),
    "impossible date": ("a: 1\nb: 2020-13-45\n", ":2: broken YAML: month must be in 1..12"),
    "endless number": ("a: 1\nb: " + "9" * 5000 + "\n", ":2: broken YAML: Exceeds the limit"),
    "alias for what is around it": ("a: 1\nb: &b {c: *b}\n", ":2: .*holds an alias for itself"),
    "deep lists": ("a: " + "[" * 60 + "]" * 60 + "\n", ":1: broken YAML: nested more than 40 deep"),
    "deep beyond the stack": ("a: " + "{a: " * 3000 + "1" + "}" * 3000 + "\n", "nested more than 40 deep"),
    "deep by aliases": (
        "a0: &a0 [1]\n" + "".join(f"a{k + 1}: &a{k + 1} [*a{k}]\n" for k in range(200)),
        ":40: broken YAML: nested more than 40 deep",
    ),
    "a bomb of aliases": (
        "a0: &a0 [x, x]\n" + "".join(f"a{k + 1}: &a{k + 1} [{', '.join([f'*a{k}'] * 9)}]\n" for k in range(9)),
        r":7: its aliases \(\*name\) unfold",
    ),
    "a bomb of mappings": (
        "a0: &a0 {x: 1}\n"
        + "".join(f"a{k + 1}: &a{k + 1} {{{', '.join(f'k{j}: *a{k}' for j in range(9))}}}\n" for k in range(9)),
        r":7: its aliases \(\*name\) unfold",
    ),
    "another document": ("a: 1\n---\nb: 2\n", ":2: broken YAML"),
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


def test_lines_of_entries_of_lists_and_of_what_aliases_stand_for(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("claims:\n  - {arm: a}\n  - text: t\n    arm: b\nb: &b\n  c: 1\nd: *b\ne: {<<: *b, f: 2}\n")
    value, lines = read_yaml(path)
    assert (value["d"], value["e"]) == ({"c": 1}, {"c": 1, "f": 2}), "aliases are fine where they stay small"
    expected = {"claims.0": 2, "claims.0.arm": 2, "claims.1": 3, "claims.1.text": 3, "claims.1.arm": 4, "d.c": 6}
    assert expected.items() <= lines.items()
    assert as_written(lines, ["claims", "1", "is"]) == (["claims", "1", "is"], 3)
    assert as_written(lines, ["b", "0", "c"]) == (["b", "c"], 6), "one entry without a list around it"
    assert as_written(lines, ["z", "0"]) == (["z", "0"], None)


def test_an_empty_file_is_an_empty_mapping(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("# nothing\n")
    assert read_yaml(path) == ({}, {})
