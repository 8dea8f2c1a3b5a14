"""LaTeX that shows a text as it is, as far as pdflatex with the T1 encoding has its characters."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from ablations.reports.blocks import Emphasis, Span, Strong

LONG_WORD = 16  # letters
PART = 8  # letters between two places to break it

_MARKS = {
    **{mark: f"\\{mark}" for mark in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "`": r"\textasciigrave{}",
    "'": r"\textquotesingle{}",
    "[": "{[}",  # after the end of a row it would be taken for an option, and so would a star
    "]": "{]}",
    "*": "{*}",
    "±": r"$\pm$",
    "×": r"$\times$",
    "÷": r"$\div$",
    "·": r"$\cdot$",
    "−": "$-$",
    "≤": r"$\leq$",
    "≥": r"$\geq$",
    "→": r"$\rightarrow$",
    "–": "--",
    "—": "---",
    "‘": "`",
    "’": "'",
    "“": "``",
    "”": "''",
    "…": r"\dots{}",
    "°": r"\textdegree{}",
    "µ": r"$\mu$",
    "€": r"\texteuro{}",
}
_GREEK = re.compile(
    "GREEK (SMALL|CAPITAL) LETTER (ALPHA|BETA|GAMMA|DELTA|EPSILON|ZETA|ETA|THETA|IOTA|KAPPA|LAMDA|MU|NU|XI|PI|RHO|SIGMA"
    "|TAU|UPSILON|PHI|CHI|PSI|OMEGA)"
)
_AS_LATIN = {"Alpha", "Beta", "Epsilon", "Zeta", "Eta", "Iota", "Kappa", "Mu", "Nu", "Rho", "Tau", "Chi"}  # no capital
_NUMERIC = re.compile(r"[-+±<\d.,\[\]()%e \u2212]*\d[-+±<\d.,\[\]()%e \u2212]*")


def escape(text: str) -> str:
    """The text for inline use, one line of it.

    Letters of Latin-1 and Greek ones are kept. Of what pdflatex has no letter for, the plain one is left (``ő`` becomes
    ``o``), else a question mark; control characters become spaces.
    """
    line = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]", " ", text).split())
    followed = zip(line, (*line, "")[1:], strict=True)
    return "".join(_mark(mark) + ("{}" if mark == after and mark in "-," else "") for mark, after in followed)


def inline(spans: Iterable[Span]) -> str:
    """Spans of plain text (escaped here) as one line; a space at a span's end is kept."""
    return "".join(map(_span, spans)).strip()


def code(line: str) -> str:
    """A line in typewriter letters that may be broken after any of its marks, as paths and commands must."""
    words = [re.sub(r"([/=,:.]|\\_|(?<!\$)-(?:\{\})?)", r"\1\\allowbreak{}", escape(word)) for word in line.split()]
    return rf"\texttt{{{' '.join(words)}}}"


def cell(text: str, number: bool = False) -> str:
    """A cell of a table; in a column of numbers signs and ± are those of mathematics."""
    if number and _NUMERIC.fullmatch(text):
        shown = re.sub(r"[-+\u2212](?=\d)", lambda sign: f"${sign[0]}$", text.replace("%", r"\%"))
        return shown.replace("±", r"$\pm$").replace("<", "$<$").replace("[", "{[}").replace("]", "{]}")
    return escape(text)


def broken(text: str) -> str:
    """The text with places to break words that are too long for a line or a narrow column: hashes, paths, names."""
    return " ".join(map(_broken_word, text.split()))


def _broken_word(word: str) -> str:
    if len(word) <= LONG_WORD:
        return escape(word)
    return r"\allowbreak{}".join(escape(word[at : at + PART]) for at in range(0, len(word), PART))


def row(cells: Iterable[str]) -> str:
    """Cells (escaped before) as a row of a table."""
    return " & ".join(cells) + r" \\"


def _span(span: Span) -> str:
    if isinstance(span, Strong):
        return rf"\textbf{{{broken(span.text)}}}"
    if isinstance(span, Emphasis):
        return rf"\emph{{{broken(span.text)}}}"
    before, after = (" " if edge.isspace() else "" for edge in (span[:1], span[-1:]))
    return f"{before}{broken(span)}{after}"


def _mark(mark: str) -> str:
    if (known := _MARKS.get(mark)) is not None:
        return known
    if mark.isascii() or ("À" <= mark <= "ÿ"):
        return mark
    if greek := _GREEK.fullmatch(unicodedata.name(mark, "")):
        name = greek[2].lower().replace("lamda", "lambda")
        name = name if greek[1] == "SMALL" else name.capitalize()
        return name[0] if name in _AS_LATIN else f"$\\{name}$"
    if unicodedata.category(mark).startswith("M"):
        return ""
    plain = unicodedata.normalize("NFKD", mark)
    return "?" if plain == mark else "".join(map(_mark, plain))
