"""A figure as an ``<svg>`` to stand within a page, in the page's own text colour."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

Element = ElementTree.Element

INK = "#010203"  # texts and axes are drawn in it; black to the eye, and no other part of a figure has it
XML = "http://www.w3.org/2000/svg"
REFERRING = ("href", "clip-path")
FONT = re.compile(r"font-family: [^;]*;? ?")  # of every text; said once instead
# and what the style sheet said, which on a page would be said of the whole page
STYLE = "stroke-linejoin: round; stroke-linecap: butt; font-family: 'DejaVu Sans', Verdana, sans-serif"


def inline_svg(document: str, prefix: str) -> str:
    """matplotlib's SVG document as one element without prolog, metadata and style sheet, as wide as its place.

    What was drawn in ``INK`` takes the colour of the text around it, so that light and dark pages both fit. Ids are
    begun with ``prefix``: several figures on a page share one name space. Texts stay texts, and stay escaped.
    """
    root = ElementTree.fromstring(document)
    for parent in list(root.iter()):
        for child in list(parent):
            if _name(child.tag) in ("metadata", "style"):
                parent.remove(child)
    referred = {name for element in root.iter() for name in _references(element)}
    for element in root.iter():
        element.tag, element.tail = _name(element.tag), None
        element.text = element.text if (element.text or "").strip() else None
        element.attrib = dict(_attributes(element, referred, prefix))
    root.attrib = {"xmlns": XML, "viewBox": root.attrib["viewBox"], "width": "100%", "role": "img", "style": STYLE}
    return ElementTree.tostring(root, encoding="unicode")


def _name(tag: str) -> str:
    return tag.rpartition("}")[2]


def _references(element: Element) -> Iterator[str]:
    """The ids that an element refers to, by ``href`` or ``clip-path``."""
    for key, value in element.attrib.items():
        if _name(key) in REFERRING:
            yield value.removeprefix("url(").removesuffix(")").removeprefix("#")


def _attributes(element: Element, referred: set[str], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in element.attrib.items():
        name = _name(key)  # without the name space of xlink:href, which pages do without
        if name == "id":
            if value in referred:  # matplotlib gives every group one
                yield name, f"{prefix}-{value}"
        elif name in REFERRING:
            yield name, value.replace("#", f"#{prefix}-")
        elif name == "style":
            yield name, FONT.sub("", value.replace(INK, "currentColor"))
        else:
            yield name, " ".join(value.split())
