"""Messages that docs/troubleshooting.md quotes are messages of the sources, with something put into their places."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text()
FIXED, WORDS = 15, 4  # letters and words that a message must have in common with a text of the sources, at least


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
    """Whether all fixed parts of a text of the sources stand in the message, one after the other."""

    def fits(parts: list[str]) -> bool:
        place = 0
        for part in parts:
            place = message.find(part, place)
            if place < 0:
                return False
            place += len(part)
        return True

    return any(fits(parts) for parts in texts())


@pytest.mark.parametrize("message", quoted())
def test_a_quoted_message_is_one_of_the_sources(message: str) -> None:
    assert is_said(message)


def test_the_page_is_for_what_users_meet() -> None:
    assert 15 <= len(re.findall(r"```text\n", PAGE)) <= 24
    assert not is_said("an invented message that nothing ever prints, whatever breaks")
