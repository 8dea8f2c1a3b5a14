"""The HTML report: whole in one file, what the Markdown says, and no name in it is ever markup."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ablations.reports.blocks import Table
from ablations.reports.document import document
from ablations.reports.files import write_report
from ablations.reports.html import html, sort_value, table_lines
from ablations.reports.plots import inline_svgs

BASE = [3.010, 2.995, 3.004]
BETTER = [2.951, 2.938, 2.944]
WORSE = [3.412, 3.391, 3.404]


class Page(HTMLParser):
    """Elements of a page with their attributes, and its tables as rows of (attributes, text)."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.tables: list[list[list[tuple[dict[str, str | None], str]]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag if tag in ("th", "td", "script", "style") else self._inside
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("th", "td"):
            self.tables[-1][-1].append((dict(attrs), ""))

    def handle_endtag(self, tag: str) -> None:
        self._inside = "" if tag == self._inside else self._inside

    def handle_data(self, data: str) -> None:
        if self._inside in ("th", "td"):
            attributes, text = self.tables[-1][-1].pop()
            self.tables[-1][-1].append((attributes, text + data))
        if self._inside == "script":
            self.scripts.append(data)
        elif self._inside != "style":
            self.text += data


def arms(page: Page) -> dict[str, dict[str, tuple[dict[str, str | None], str]]]:
    header, *rows = page.tables[0]
    names = [text for _, text in header]
    return {row[0][1]: dict(zip(names, row, strict=True)) for row in rows}


def test_it_says_what_the_markdown_says(make_report: Any, make_record: Any) -> None:
    """Both are laid out from one document: every text and every cell of it is on the page."""
    data, _ = make_report({"a": BASE, "b": BETTER, "c": [*WORSE[:2], None]}, profile="quick")
    page = Page(html(data, {}))
    shown = document(data, [])
    assert data.summary in page.text and data.scheduler in page.text
    tables = [block for section in shown.sections for block in section.blocks if isinstance(block, Table)]
    assert len(page.tables) == len(tables)
    for found, table in zip(page.tables, tables, strict=True):
        expected = [sorted(row) for row in (table.header, *table.rows)]
        assert [sorted(text for _, text in row) for row in found] == expected
    assert page.text.count("not comparable with published numbers") == 4
    for section in shown.sections:
        assert section.title in page.text
    assert "altformer train --cfg cells/1/config.yaml --out repeat  # a, seed 1" in page.text
    assert "c" * 40 in page.text and "d" * 64 in page.text, "commit and data"


def test_nothing_is_fetched_and_no_script_but_its_own_may_run(make_report: Any, tmp_path: Path) -> None:
    data, _ = make_report({"a": BASE, "b": BETTER})
    write_report(data, tmp_path)
    text = (tmp_path / "report.html").read_text()
    page = Page(text)
    (policy,) = [
        attributes["content"]
        for tag, attributes in page.elements
        if tag == "meta" and attributes.get("http-equiv") == "Content-Security-Policy"
    ]
    assert policy is not None and policy.startswith("default-src 'none';") and "script-src 'sha256-" in policy
    for tag, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        assert tag not in ("link", "iframe", "object", "base")
        for name in ("src", "href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert not re.search(r"url\((?!#)|@import", text)
    assert len(page.scripts) == 1 and text.count("<svg") == len(inline_svgs(data)) >= 4


def test_columns_of_numbers_are_sorted_by_value_and_what_is_missing_has_none(make_report: Any) -> None:
    data, _ = make_report({"a": BASE, "b": BETTER, "c": [None] * 3})
    found = arms(Page(html(data, {})))
    assert found["a"]["parameters"][0]["data-value"] == "1000000.0"
    assert float(found["b"]["test MAE"][0]["data-value"] or 0) == pytest.approx(2.944, abs=5e-4)
    assert found["c"]["test MAE"][1] == "-" and "data-value" not in found["c"]["test MAE"][0]
    assert "data-value" not in found["a"]["p (Holm)"][0]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("-", None),
        ("", None),
        ("0.000", 0.0),
        ("2.944 ± 0.007", 2.944),
        ("-0.059 [-0.071, -0.047]", -0.059),
        ("+0.1", 0.1),
        ("[2.9, 3.1]", 2.9),
        ("1,300,000", 1_300_000.0),
        ("3 of 5", 3.0),
        ("< 0.001", 0.0005),
    ],
)
def test_what_a_cell_is_sorted_by(text: str, value: float | None) -> None:
    assert sort_value(text) == value


def test_verdicts_are_coloured_and_stand_beside_the_arm(make_report: Any, make_record: Any) -> None:
    stopped = [make_record(3.4, seed, "stopped", 8) for seed in range(3)]
    data, _ = make_report({"a": BASE, "b": BETTER, "c": WORSE, "d": stopped}, {"scheduler": {"type": "futility"}})
    page = Page(html(data, {}))
    shown = [text for _, text in page.tables[0][0]]
    assert shown[:2] == ["arm", "verdict"]
    assert shown[2:6] == ["difference in test MAE [95 %]", "p (Holm)", "d_z", "parameters"]
    tones = {name: (row["verdict"][0]["class"] or "").split()[1:] for name, row in arms(page).items()}
    assert tones == {"a": [], "b": ["better"], "c": ["worse"], "d": ["trouble"]}


def test_long_lists_are_folded(make_report: Any) -> None:
    few, many = (make_report({"a": [*BASE], "b": [None] * count})[0] for count in (3, 20))
    assert [html(data, {}).count("<details>") for data in (few, many)] == [1, 2]


printable = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Zl", "Zp")), min_size=1)


@given(printable)
def test_any_text_is_shown_as_it_is(text: str) -> None:
    rows = Page("".join(table_lines(Table((text, "x"), ((text, f"a {text} b"),))))).tables[0]
    assert [[cell for _, cell in row] for row in rows] == [[text, "x"], [text, f"a {text} b"]]


@given(st.text())
def test_no_text_is_ever_an_element(text: str) -> None:
    page = Page("".join(table_lines(Table(("a", "b"), ((text, text),), (1,)))))
    assert {tag for tag, _ in page.elements} == {"div", "table", "thead", "tbody", "tr", "th", "td"}


CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium, which is not installed")
def test_a_browser_sorts_the_table(make_report: Any, tmp_path: Path) -> None:
    """A click sorts by value, a second one the other way round, a third one undoes it; ``-`` is last in both."""
    data, _ = make_report({"9": BASE, "10": BETTER, "none": [None] * 3, "worse": WORSE})
    text = re.sub(r"<meta http-equiv[^>]*>", "", html(data, {}))
    names = "[...document.querySelectorAll('table')[0].tBodies[0].rows].map(row => row.cells[0].textContent).join()"
    clicks = "".join(
        f"document.querySelectorAll('table')[0].tHead.rows[0].cells[{column}].firstChild.click(); seen.push({names});"
        for column in (7, 7, 7, 0)  # val MAE is behind arm, verdict, difference, p, d_z, parameters and seeds; then arm
    )
    script = f"<script>const seen = []; {clicks} document.title = seen.join(' | ');</script></body>"
    (tmp_path / "page.html").write_text(text.replace("</body>", script))
    command = [str(CHROMIUM), "--headless=new", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'user'}"]
    done = subprocess.run(
        [*command, "--dump-dom", str(tmp_path / "page.html")], capture_output=True, text=True, timeout=120, check=True
    )
    found = re.search(r"<title>(.*)</title>", done.stdout)
    assert found is not None
    assert found[1] == "10,9,worse,none | worse,9,10,none | 9,10,none,worse | 9,10,none,worse"
