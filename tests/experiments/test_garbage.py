"""Tests of when garbage is looked for."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import weakref
from experiments.garbage import collect_as_usual, collect_rarely

class Node:
    pass

def left_behind():
    node = Node()
    node.itself = node
    return weakref.ref(node)

collect_rarely()
{then}
left = [left_behind() for _ in range(5000)]
print(sum(node() is not None for node in left))
"""


@pytest.mark.parametrize(("then", "few"), [("", False), ("collect_as_usual()", True)], ids=["start", "work"])
def test_cycles_stay_while_a_command_starts_and_go_while_it_works(then: str, few: bool) -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(then=then)], capture_output=True, text=True, check=True, timeout=60
    )
    alive = int(run.stdout)
    assert alive < 1000 if few else alive == 5000
