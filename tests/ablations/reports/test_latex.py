"""The LaTeX report: pdflatex takes it whatever names hold, and its table of arms can be taken out."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ablations.reports.blocks import Table
from ablations.reports.document import document
from ablations.reports.files import write_report, write_tables
from ablations.reports.latex import latex
from ablations.reports.latex_text import broken, cell, code, escape

BASE = [3.010, 2.995, 3.004]
BETTER = [2.951, 2.938, 2.944]
NAMES = [
    "<script>alert(1)</script>",
    "a & b % c $ d # e _ f",
    "{open",
    "close}",
    "~ ^ \\ \\end{document} \\input{x}",
    "../../up",
    "two\nlines",
    "=1+1",
    "[option]",
    "*star",
    "`tick` 'quote' \"double\" ``",
    "--dashes --- ,, << >> !` ?`",
    "λ α Ω Ελ ő ß Ž é ± − “quoted” … 漢字 \u0301 🚦",
    "\x07bell \x7f \u2028 end",
    "%comment",
    "x" * 90,
]
PDFLATEX = shutil.which("pdflatex")
needs_pdflatex = pytest.mark.skipif(PDFLATEX is None, reason="needs pdflatex, which is not installed")


def compiled(path: Path) -> str:
    """What pdflatex says of a file that it takes."""
    command = [str(PDFLATEX), "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", path.name]
    wide = {**os.environ, "max_print_line": "10000"}
    done = subprocess.run(command, cwd=path.parent, env=wide, capture_output=True, timeout=120)
    said = done.stdout.decode(errors="replace")
    assert done.returncode == 0, said[-3000:]
    assert path.with_suffix(".pdf").stat().st_size > 0
    return said


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a & b", r"a \& b"),
        ("50 %", r"50 \%"),
        ("x_y^2 {z}", r"x\_y\textasciicircum{}2 \{z\}"),
        ("\\a~", r"\textbackslash{}a\textasciitilde{}"),
        ("<b>", r"\textless{}b\textgreater{}"),
        ("two\nlines\ttabs", "two lines tabs"),
        ("--seeds", "-{}-seeds"),
        ("[x] *", "{[}x{]} {*}"),
        ("3.0 ± 0.1", r"3.0 $\pm$ 0.1"),
        ("λ Α Σ", r"$\lambda$ A $\Sigma$"),
        ("Zoë, ő, ﬁ", "Zoë, o, fi"),
        ("漢", "?"),
    ],
)
def test_names_are_escaped(text: str, expected: str) -> None:
    assert escape(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("-", "-"),
        ("2.944 ± 0.007", r"2.944 $\pm$ 0.007"),
        ("-0.059 [-0.071, +0.047]", "$-$0.059 {[}$-$0.071, $+$0.047{]}"),
        ("< 0.001", "$<$ 0.001"),
        ("3 of 5", "3 of 5"),
        ("1_000", r"1\_000"),
    ],
)
def test_numbers_have_the_signs_of_mathematics(text: str, expected: str) -> None:
    assert cell(text, number=True) == expected


SAFE = re.compile(
    r"(?:[^\\{}$&#%_^~\[\]*<>|\"`]|\\[&%$#_{}]|\\text[a-z]+\{\}|\\dots\{\}|\\allowbreak\{\}|\{[\[\]*]\}|\{\}"
    r"|\$(?:\\[A-Za-z]+|[-+<])\$)*"
)


@given(st.text())
@example("a−b")
def test_nothing_of_a_text_is_a_command(text: str) -> None:
    for shown in (escape(text), cell(text, number=True), broken(text), code(text)[len(r"\texttt{") : -1]):
        plain = shown.replace("``", "").replace("`", "")  # typographic quotes are set from ticks
        assert SAFE.fullmatch(plain), shown
        assert len(shown.splitlines()) <= 1
        assert all(ord(mark) < 256 for mark in shown)


@needs_pdflatex
def test_it_compiles_with_any_names(make_report: Any, make_record: Any, tmp_path: Path) -> None:
    arms: dict[str, Any] = {"base": BASE}
    for place, name in enumerate(NAMES):
        failed = make_record(3.0, 2, "failed", error=f"no \\memory & {name}")
        last = [2.95, None, failed, make_record(3.0, 2, "diverged")]
        arms[name] = [*BETTER[:2], last[place % 4]]
    data, _ = make_report(arms, dataset=NAMES[1], unit="mph_%", notes=(NAMES[4],), command=f"x {NAMES[4]}")
    write_report(data, tmp_path)
    said = compiled(tmp_path / "report.tex")
    assert "differences.pdf" in said
    assert not [line for line in said.splitlines() if "Overfull" in line and "alignment" in line]


@needs_pdflatex
def test_the_table_of_arms_stands_alone(make_report: Any, tmp_path: Path) -> None:
    data, _ = make_report({"a": BASE, "b_1": BETTER, "c": [None] * 3}, unit="mph")
    write_tables(data, tmp_path)
    text = (tmp_path / "report.tex").read_text()
    block = text.split("% table begins\n")[1].split("% table ends")[0]
    assert r"b\_1 & 1,100,000 & 3 & 2.694 $\pm$ 0.007" in block
    assert r"c & - & 0 of 3 & - & -" in block
    caption = re.search(r"\\caption\{(.*)\}", block)
    assert caption is not None
    for part in ("Errors in mph", "over 3 seeds", "the baseline a", "Holm", "alpha = 0.05"):
        assert part in caption[1]
    assert caption[1].endswith("Early stopping: futility.")
    paper = r"\documentclass{article}\usepackage[T1]{fontenc}\usepackage{booktabs,graphicx}\begin{document}"
    (tmp_path / "paper.tex").write_text(f"{paper}\n{block}\\end{{document}}\n")
    compiled(tmp_path / "paper.tex")


@needs_pdflatex
def test_many_arms_are_set_in_parts_that_fit_on_pages(make_report: Any, tmp_path: Path) -> None:
    """Each part has the names of its rows, and every cell of the table is in one of them."""
    data, _ = make_report({f"embed_dim={16 * place},num_heads=4": BASE for place in range(60)}, unit="mph")
    write_tables(data, tmp_path)
    said = compiled(tmp_path / "report.tex")
    assert "Float too large" not in said and "Overfull" not in said
    block = (tmp_path / "report.tex").read_text().split("% table begins\n")[1].split("% table ends")[0]
    assert block.count(r"\caption{") == 1 and block.count(", continued}") == block.count(r"\begin{table}") - 1
    heads = re.findall(r"\\toprule\n(.*?) \\\\\n", block)
    columns = [column for head in dict.fromkeys(heads) for column in head.split(" & ")[1:]]
    [whole] = [part for part in document(data, []).sections[0].blocks if isinstance(part, Table)]
    assert columns == [escape(name) for name in whole.header[1:]]
    assert all(head.startswith("arm & ") for head in heads)
    assert block.count("embed") == len(set(heads)) * 60 + 1, "and the baseline in the caption"


def test_it_has_provenance_and_the_commands_that_repeat_cells(make_report: Any) -> None:
    data, _ = make_report({"a": BASE, "b": BETTER}, profile="quick")
    text = latex(data, {})
    assert "cccccccc" in text and "dddddddd" in text and "a processor" in text
    repeats = text.split("Repeating a cell")[1].replace(r"\allowbreak{}", "").replace("-{}-", "--")
    assert r"altformer train --cfg cells/1/config.yaml --out repeat \# a, seed 1" in repeats
    assert text.count("not comparable with published numbers") == 5, "and in the caption"
