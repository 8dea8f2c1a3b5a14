"""Runs the cells of a notebook and stores what they show in it: ``python -m benchmarks.notebook FILE.ipynb``.

As Jupyter shows it: what is printed, the value of a last line without a semicolon, and the figures of pyplot. Cells run
in order, in one process, in a temporary folder; what a cell with the tag ``remove_output`` shows is not kept.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.document import run_blocks

_PROGRAM = """
import ast, base64, contextlib, io, json, os, sys
os.environ["MPLBACKEND"] = "agg"
blocks, names, shown = json.load(sys.stdin), {"__name__": "__main__"}, []

def shows(value):
    html = getattr(value, "_repr_html_", None)
    return {"text/plain": repr(value), **({"text/html": html()} if html else {})}

def figures():
    if (plt := sys.modules.get("matplotlib.pyplot")) is None:
        return
    for number in plt.get_fignums():
        plt.figure(number).savefig(image := io.BytesIO(), dpi=80, bbox_inches="tight", metadata={"Software": None})
        yield {"text/plain": "<Figure>", "image/png": base64.b64encode(image.getvalue()).decode()}
    plt.close("all")

for number, source in enumerate(blocks, 1):
    tree, value = ast.parse(source), None
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, "notebook", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), "notebook", "eval"), names)
    outputs = []
    if text := printed.getvalue():
        outputs.append({"output_type": "stream", "name": "stdout", "text": text})
    if value is not None and not source.rstrip().endswith(";"):
        data = shows(value)
        outputs.append({"output_type": "execute_result", "execution_count": number, "data": data, "metadata": {}})
    outputs += [{"output_type": "display_data", "data": figure, "metadata": {}} for figure in figures()]
    shown.append(outputs)
print(json.dumps(shown), file=sys.__stdout__)
"""


def executed(text: str) -> str:
    """The notebook with the outputs that its cells have now; RuntimeError with the traceback of a cell that fails."""
    notebook: dict[str, Any] = json.loads(text)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    shown = run_blocks(_PROGRAM, ["".join(cell["source"]) for cell in cells])
    for number, (cell, outputs) in enumerate(zip(cells, shown, strict=True), 1):
        kept = "remove_output" not in cell["metadata"].get("tags", ())
        cell |= {"execution_count": number, "outputs": outputs if kept else []}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name in sys.argv[1:]:
        path = Path(name)
        path.write_text(executed(path.read_text()))
