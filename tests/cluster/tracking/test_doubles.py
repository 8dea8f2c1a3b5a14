"""A run that a slow store has made twice: the empty one is deleted, or left where deleting is not allowed."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from cluster.tracking.location import resolve
from cluster.tracking.runs import Runs


class Page(list[Any]):
    token = None


class RefusedError(Exception):
    def __init__(self, error_code: str) -> None:
        super().__init__(error_code)
        self.error_code = error_code


class Store:
    """As far as it is asked here: two runs with the same key, and a word on deleting one."""

    def __init__(self, refusal: Exception | None = None) -> None:
        self.refusal = refusal
        self.deleted: list[str] = []

    def get_experiment_by_name(self, name: str) -> Any:
        return SimpleNamespace(experiment_id="1", lifecycle_stage="active")

    def search_runs(self, *asked: Any, **more: Any) -> Page:
        tags = {"run_key": "key", "session": "ours"}
        found = [("empty", {}), ("used", {"lr": "1"})]
        return Page(
            SimpleNamespace(
                info=SimpleNamespace(run_id=name, status="RUNNING"), data=SimpleNamespace(params=params, tags=tags)
            )
            for name, params in found
        )

    def delete_run(self, run_id: str) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.deleted.append(run_id)


@pytest.mark.parametrize(("refusal", "deleted"), [(None, ["empty"]), (RefusedError("PERMISSION_DENIED"), [])])
def test_the_empty_one_goes_or_stays_and_the_other_is_used(refusal: Any, deleted: list[str], tmp_path: Path) -> None:
    store = Store(refusal)
    runs = Runs(store, resolve(tmp_path, "http://host"), "altformer", "ours")
    found = runs.find("key")
    assert found is not None and found.run_id == "used"
    assert store.deleted == deleted


class Contested(Store):
    """Where somebody else makes the experiment between the look and our own making of it; or a store that is broken."""

    def __init__(self, code: str, made: bool) -> None:
        super().__init__()
        self.code, self.made, self.looks = code, made, 0

    def get_experiment_by_name(self, name: str) -> Any:
        self.looks += 1
        return super().get_experiment_by_name(name) if self.made and self.looks > 1 else None

    def create_experiment(self, *described: Any) -> str:
        raise RefusedError(self.code)


def test_an_experiment_that_another_makes_at_the_same_time_is_used(tmp_path: Path) -> None:
    contested = Contested("RESOURCE_ALREADY_EXISTS", made=True)
    assert Runs(contested, resolve(tmp_path, "http://host"), "altformer", "ours").experiment() == "1"


@pytest.mark.parametrize(("code", "made"), [("INTERNAL_ERROR", True), ("RESOURCE_ALREADY_EXISTS", False)])
def test_an_experiment_that_cannot_be_made_is_the_stores_failure(code: str, made: bool, tmp_path: Path) -> None:
    runs = Runs(Contested(code, made), resolve(tmp_path, "http://host"), "altformer", "ours")
    with pytest.raises(RefusedError, match=code):
        runs.experiment()


def test_any_other_refusal_is_the_stores_failure(tmp_path: Path) -> None:
    runs = Runs(Store(RefusedError("INTERNAL_ERROR")), resolve(tmp_path, "http://host"), "altformer", "ours")
    with pytest.raises(RefusedError):
        runs.find("key")
