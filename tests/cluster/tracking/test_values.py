"""Names and values made acceptable, judged by MLflow's own rules."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.tracking.values import (
    BYTES_PER_CALL,
    PAIRS_PER_CALL,
    chunks,
    clean_folder,
    clean_key,
    clean_name,
    clean_text,
    milliseconds,
    numbers,
    pairs,
)

ANY_TEXT = st.text(st.characters(codec=None), max_size=300) | st.text("./_ a:-", max_size=12)


@pytest.mark.parametrize("key", ["lr", "model.embed_dim", "test_mae", "a/b", "a b:c-d", "x" * 250])
def test_good_keys_stay(key: str) -> None:
    assert clean_key(key) == key


@given(ANY_TEXT)
def test_keys_are_what_mlflow_accepts(text: str) -> None:
    from mlflow.utils.validation import _validate_metric, _validate_param_name, _validate_tag_name

    key = clean_key(text)
    _validate_metric(key, 1.0, 0, 0)
    _validate_param_name(key)
    _validate_tag_name(key)
    assert clean_key(key) == key


@given(st.sets(ANY_TEXT, min_size=2, max_size=5))
def test_different_names_stay_different(names: set[str]) -> None:
    assert len({clean_key(name) for name in names}) == len(names)


@given(ANY_TEXT, st.integers(20, 60))
def test_texts_fit_and_can_be_stored(text: str, limit: int) -> None:
    cleaned = clean_text(text, limit)
    assert len(cleaned) <= limit
    assert b"\x00" not in cleaned.encode()
    if len(text) <= limit and text.isprintable():
        assert cleaned == text


@given(ANY_TEXT)
def test_names_are_one_line(text: str) -> None:
    name = clean_name(text)
    assert name
    assert len(name.splitlines()) == 1


@given(ANY_TEXT)
def test_folders_stay_inside_the_run(text: str) -> None:
    from mlflow.store.artifact.artifact_repo import verify_artifact_path

    folder = clean_folder(text)
    assert folder is None or folder
    if folder is not None:
        verify_artifact_path(folder)
        assert ".." not in folder.split("/")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({"a": 1, "b": 2.5, "c": True}, {"a": 1.0, "b": 2.5, "c": 1.0}),
        ({"a": np.float32(0.5), "b": np.int64(3), "c": np.array(2.0)}, {"a": 0.5, "b": 3.0, "c": 2.0}),
        ({"a": math.inf}, {"a": math.inf}),
        ({"a": "3", "b": None, "c": [1], "d": {"e": 1}, "f": b"1", "g": object(), "h": np.ones(2), "i": 10**400}, {}),
    ],
)
def test_numbers(values: dict[str, Any], expected: dict[str, float]) -> None:
    assert numbers(values) == expected


def test_nan_is_a_number() -> None:
    assert math.isnan(numbers({"a": math.nan})["a"])


def test_pairs_leave_out_none_and_write_lists_readably() -> None:
    assert pairs({"a": None, "b": [1, 2], "c": {"d": 1}, "e": 1e-3}, 100) == {
        "b": "[1, 2]",
        "c": '{"d": 1}',
        "e": "0.001",
    }


@given(st.lists(st.tuples(st.text(max_size=20), st.integers(0, 40_000).map(lambda n: "ü" * n)), max_size=250))
def test_chunks_hold_everything_and_fit(items: list[tuple[str, str]]) -> None:
    parts = list(chunks(items))
    assert [item for part in parts for item in part] == items
    assert all(1 <= len(part) <= PAIRS_PER_CALL for part in parts)
    assert all(len(part) == 1 or sum(len(json.dumps(item)) for item in part) <= BYTES_PER_CALL for part in parts)


@pytest.mark.parametrize(("seconds", "expected"), [(1.5, 1500), (math.nan, 0), (-1.0, 0), (math.inf, 0)])
def test_milliseconds(seconds: float, expected: int) -> None:
    assert milliseconds(seconds) == expected
