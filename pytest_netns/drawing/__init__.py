"""A network drawn as text, as Mermaid and as SVG, from a plain description of it."""

from __future__ import annotations

from pytest_netns.drawing.sketch import Sketch, SketchInterface, SketchNamespace
from pytest_netns.drawing.svg import draw_svg
from pytest_netns.drawing.text import draw_mermaid, draw_text
from pytest_netns.values import parse_choice

__all__ = ["FORMATS", "Sketch", "SketchInterface", "SketchNamespace", "draw"]

FORMATS = {"text": draw_text, "mermaid": draw_mermaid, "svg": draw_svg}


def draw(sketch: Sketch, format: str = "text") -> str:
    """A drawing.

    Args:
        sketch: what to draw.
        format: ``"text"``, ``"mermaid"`` or ``"svg"``.

    Raises:
        InvalidTopologyError: there is no such format.
    """
    return FORMATS[parse_choice(format, FORMATS, "format of a drawing")](sketch)
