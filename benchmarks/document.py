"""Runs the Python blocks of a document and writes what they print below them: ``python -m benchmarks.document FILE``.

A block of ```` ```text ```` right after one of ```` ```python ```` is that block's output. Blocks run in order, in one
process, in a temporary folder; what a block without such a place prints is not kept.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

BLOCK = re.compile(r"```python\n(?P<code>.*?)```(?P<between>\s*)(?:```text\n(?P<output>.*?)```)?", re.DOTALL)
TIMEOUT = 900  # seconds
WIDTH = "120"  # columns of the terminal that the blocks print to

_PROGRAM = """
import contextlib, io, json, sys
blocks, names, printed = json.load(sys.stdin), {"__name__": "__main__"}, []
for code in blocks:
    with contextlib.redirect_stdout(io.StringIO()) as kept:
        exec(compile(code, "document", "exec"), names)
    printed.append(kept.getvalue())
print(json.dumps(printed), file=sys.__stdout__)
"""


def executed(text: str) -> str:
    """The document with the outputs that its blocks have now; RuntimeError with the traceback of a block that fails."""
    printed = iter(run_blocks(_PROGRAM, [found["code"] for found in BLOCK.finditer(text)]))

    def with_output(found: re.Match[str]) -> str:
        output = "\n".join(line.rstrip() for line in next(printed).splitlines())
        if found["output"] is None:
            return found[0]
        return f"```python\n{found['code']}```{found['between']}```text\n{output}\n```"

    return BLOCK.sub(with_output, text)


def run_blocks(program: str, blocks: list[str]) -> list[Any]:
    """What a program that reads blocks of code as JSON prints as JSON, run in a temporary folder; RuntimeError."""
    environment = {**os.environ, "COLUMNS": WIDTH, "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=json.dumps(blocks),
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            cwd=folder,
            env=environment,
            check=False,
        )
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    printed: list[Any] = json.loads(done.stdout.splitlines()[-1])
    return printed


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(executed(path.read_text()))
