"""The report of a matrix as Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ablations.reports.blocks import Block, Code, Figures, Paragraph
from ablations.reports.data import ReportData
from ablations.reports.document import document
from ablations.reports.markdown_text import code_block, escape, inline, table


def markdown(data: ReportData, plots: Mapping[str, str]) -> str:
    """The report's text; ``plots`` maps each plot's title to its path relative to the report."""
    return "\n\n".join(_texts(data, plots)) + "\n"


def _texts(data: ReportData, plots: Mapping[str, str]) -> Iterator[str]:
    report = document(data, list(plots))
    yield f"# {escape(report.title)}"
    if report.marker:
        yield f"> **{escape(report.marker)}**"
    for block in report.head:
        yield from _block(block, plots)
    for section in report.sections:
        yield f"## {escape(section.title)}"
        for block in section.blocks:
            yield from _block(block, plots)


def _block(block: Block, plots: Mapping[str, str]) -> Iterator[str]:
    if isinstance(block, Paragraph):
        yield f"> {inline(block.spans)}" if block.note else inline(block.spans)
    elif isinstance(block, Code):
        yield code_block(block.lines)
    elif isinstance(block, Figures):
        yield from (f"![{escape(title)}]({plots[title]})" for title in block.titles)
    else:
        yield table(block.header, block.rows, block.numbers)
