"""README.zh-CN.md says what README.md says: the same headings, commands, files, links and pictures."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ENGLISH, CHINESE = ((ROOT / name).read_text() for name in ("README.md", "README.zh-CN.md"))
BLOCK = re.compile(r"```(\w*)\n(.*?)```", re.DOTALL)
COMMENT = re.compile(r"(^|\s)#.*")


def prose(text: str) -> str:
    return BLOCK.sub("", text)


def levels(text: str) -> list[int]:
    return [len(marks) for marks in re.findall(r"^(#+) ", prose(text), re.MULTILINE)]


def blocks(text: str) -> list[tuple[str, list[str]]]:
    """Kind and lines of each block, without comments."""
    return [
        (kind, [COMMENT.sub("", line).rstrip() for line in code.splitlines() if not line.startswith("#")])
        for kind, code in BLOCK.findall(text)
    ]


def links(text: str) -> list[str]:
    """The targets of links and pictures, sorted, since words change places; without the link to the other language."""
    return sorted(re.findall(r"\]\(([^)]+)\)", prose(text).partition("\n## ")[2]))


def pictures(text: str) -> list[str]:
    return re.findall(r"!\[[^]]*\]\(([^)]+)\)", text)


def code(text: str) -> list[str]:
    """What stands between backticks in the prose, sorted."""
    return sorted(" ".join(found.split()) for found in re.findall(r"`([^`]+)`", prose(text)))


def rows(text: str) -> list[int]:
    """The number of cells of each row of a table."""
    return [line.count(" | ") for line in text.splitlines() if line.startswith("| ")]


@pytest.mark.parametrize("part", [levels, blocks, links, pictures, code, rows])
def test_both_have_the_same(part) -> None:
    assert part(CHINESE) == part(ENGLISH)
    assert part(ENGLISH)


def test_each_links_to_the_other_at_the_top() -> None:
    for text, other in ((ENGLISH, "README.zh-CN.md"), (CHINESE, "README.md")):
        assert f"]({other})" in text.split("\n\n")[1]


def test_commands_are_comments_apart_the_same_words() -> None:
    for text in (ENGLISH, CHINESE):
        commands = [line for kind, lines in blocks(text) if kind == "bash" for line in lines]
        assert len(commands) > 40
        assert all(shlex.split(command)[0] in ("make", "altformer") for command in commands)


def test_the_translation_is_chinese() -> None:
    """In every paragraph and in every comment."""
    for part in prose(CHINESE).split("\n\n"):
        text = re.sub(r"`[^`]*`|\]\([^)]*\)", "", part)
        assert (
            not re.search(r"[a-z]{3}", text) or re.search(r"[\u4e00-\u9fff]", text) or text.strip() == "# AltFormer"
        ), part
    for _, block in BLOCK.findall(CHINESE):
        for comment in re.findall(r"(?:^|\s)# ?(.*)", block):
            assert re.search(r"[\u4e00-\u9fff]", comment), comment
