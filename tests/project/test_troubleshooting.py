"""Messages that docs/troubleshooting.md quotes are messages of the sources, with something put into their places."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from altformer.data.config import DatasetConfig
from altformer.data.datasets import known_findings, load
from altformer.data.readers import Table
from altformer.data.rules import refuse
from altformer.data.specs import SPECS
from altformer.errors import UserError
from experiments.fields import locate

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
FIXED, WORDS = 15, 4  # letters and words that a message must have in common with a text of the sources, at least
SHARE = 0.3  # of a message's letters are those of the texts in it, at least; the rest is names and numbers


def quoted() -> list[str]:
    """Each quoted message; of several lines each but the first, which only opens the list."""
    blocks = re.findall(r"```text\n(.*?)```", PAGE, re.DOTALL)
    lines = [block.strip().splitlines() for block in blocks]
    return [plain(line) for block in lines for line in (block[1:] if len(block) > 1 else block)]


def plain(text: str) -> str:
    return " ".join(text.split())


@cache
def texts() -> list[list[str]]:
    """Every text in the sources as its fixed parts, in order."""
    found = []
    for package in ("altformer", "cluster", "experiments", "ablations"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    found.append([part.value if isinstance(part, ast.Constant) else "\0" for part in node.values])
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append([node.value])
    split = ["".join(map(str, parts)).split("\0") for parts in found]
    kept = [[plain(part) for part in parts if plain(part)] for parts in split]
    return [parts for parts in kept if sum(map(len, parts)) >= FIXED and " ".join(parts).count(" ") >= WORDS - 1]


def is_said(message: str) -> bool:
    """Whether texts of the sources, all fixed parts of each one after the other, make up enough of the message."""
    said: set[int] = set()
    for parts in texts():
        place, found = 0, []
        for part in parts:
            place = message.find(part, place)
            if place < 0:
                break
            found += range(place, place + len(part))
            place += len(part)
        else:
            said.update(found)
    return len(said) >= SHARE * len(message)


def no_file() -> None:
    load(DatasetConfig(name="METR-LA"))


def another_shape() -> None:
    spec = SPECS["METR-LA"]
    rows, sensors = spec.shape
    table = Table(np.zeros((rows - 1, sensors), np.float32), None, None)
    refuse(known_findings(table, spec), "data/METR-LA/metr-la.h5 is not METR-LA as it is known")


def unknown_field() -> None:
    locate("embed_dims", "command line")


#: Messages that are put together of many small texts, by how they begin.
MADE = {"METR-LA: no file": no_file, "data/METR-LA/": another_shape, "command line: unknown": unknown_field}


@pytest.mark.parametrize("message", [one for one in quoted() if not one.startswith(tuple(MADE))])
def test_a_quoted_message_is_one_of_the_sources(message: str) -> None:
    assert is_said(message)


@pytest.mark.parametrize(("beginning", "make"), MADE.items())
def test_a_message_that_is_put_together_is_quoted_word_for_word(
    beginning: str, make: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("ALTFORMER_DATA", raising=False)
    with pytest.raises(UserError) as refused:
        make()
    assert str(refused.value).splitlines()[0] in [one for one in quoted() if one.startswith(beginning)]


def test_the_page_is_for_what_users_meet() -> None:
    assert 15 <= len(re.findall(r"```text\n", PAGE)) <= 24
    assert not is_said("an invented message that nothing ever prints, whatever breaks")
