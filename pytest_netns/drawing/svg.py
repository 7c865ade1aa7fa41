"""A sketch as SVG: boxes in columns, links in the gaps between the columns, so that no link crosses a box."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from pytest_netns.drawing.sketch import Place, Sketch, SketchNamespace

# All lengths are in pixels. The glyphs of common monospaced fonts are 0.6 em wide, DejaVu's 0.602.
FONT_SIZE = 13
GLYPH = 0.61 * FONT_SIZE
ROW, PADDING, INDENT = 20, 12, 16
GAP_X, GAP_Y, MARGIN = 90, 24, 16

# Text is always on a box, so its contrast does not depend on the page; links have a grey that is visible on white and on black.
# Each rule begins with the image's class: in an HTML page a style applies to the whole page.
STYLE = """
.netns text { font: 13px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #1f2937; white-space: pre }
.netns .name { font-weight: bold }
.netns .note { fill: #5b6472 }
.netns .box { fill: #f8fafc; stroke: #64748b; stroke-width: 1.5 }
.netns .bridge { fill: #dbeafe }
.netns .link { fill: none; stroke: #7c8aa0; stroke-width: 2 }
.netns .plug { fill: #7c8aa0 }
"""


@dataclass(frozen=True)
class _Box:
    """A namespace's box in the picture: left, top, width and height in pixels."""

    namespace: SketchNamespace
    x: float
    y: float
    width: float

    @property
    def height(self) -> float:
        return _height(self.namespace)

    def row_y(self, interface: str) -> float:
        """The middle of an interface's row."""
        above = 1 + len(self.namespace.notes)
        return self.y + PADDING + (above + self.namespace.row_numbers[interface] + 0.5) * ROW


def draw_svg(sketch: Sketch) -> str:
    """An SVG image that can be read on light and dark pages."""
    boxes, column_of, width, height = _place(sketch)
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="netns" role="img" xml:space="preserve" {size}>',
        f"<title>{_text(', '.join(boxes) or 'an empty network')}</title>",
        f"<style>{STYLE}</style>",
    ]
    for box in boxes.values():
        parts += _box(box)
    for ends in sketch.connections:
        parts += _link(ends, boxes, column_of)
    return "\n".join([*parts, "</svg>"]) + "\n"


def _place(sketch: Sketch) -> tuple[dict[str, _Box], dict[str, int], float, float]:
    """Boxes by namespace, their columns, and the size of the picture: islands one below the other."""
    boxes: dict[str, _Box] = {}
    column_of: dict[str, int] = {}
    right, top = 2.0 * MARGIN, float(MARGIN)
    for island in sketch.islands():
        columns = [[sketch.named(name) for name in layer] for layer in island]
        heights = [sum(_height(each) + GAP_Y for each in column) - GAP_Y for column in columns]
        x = float(MARGIN)
        for number, (column, height) in enumerate(zip(columns, heights, strict=True)):
            width = max(map(_width, column))
            y = top + (max(heights) - height) / 2
            for namespace in column:
                boxes[namespace.name] = _Box(namespace, x, y, width)
                column_of[namespace.name] = number
                y += _height(namespace) + GAP_Y
            x += width + GAP_X
        # The last gap is needed only for links within the last column.
        bends = any(column_of.get(a[0]) == column_of.get(b[0]) == len(columns) - 1 for a, b in sketch.connections)
        right = max(right, x - (0 if bends else GAP_X))
        top += max(heights) + 2 * GAP_Y
    return boxes, column_of, right + MARGIN, max(top - 2 * GAP_Y, MARGIN) + MARGIN


def _height(namespace: SketchNamespace) -> float:
    return 2 * PADDING + ROW * (1 + len(namespace.notes) + len(namespace.interfaces))


def _width(namespace: SketchNamespace) -> float:
    indented = [INDENT * (each.bridge is not None) + GLYPH * len(each.text) for each in namespace.interfaces]
    # Bold may be wider if the font has no bold variant.
    plain = [GLYPH * len(note) for note in namespace.notes] + [1.1 * GLYPH * len(namespace.name)]
    return round(2 * PADDING + max(indented + plain))


def _link(ends: tuple[Place, Place], boxes: dict[str, _Box], column_of: dict[str, int]) -> Iterator[str]:
    a, b = sorted(ends, key=lambda place: column_of[place[0]])
    left, right = boxes[a[0]], boxes[b[0]]
    same = column_of[a[0]] == column_of[b[0]]
    x1, y1 = left.x + left.width, left.row_y(a[1])
    x2, y2 = right.x + (right.width if same else 0), right.row_y(b[1])
    bend1, bend2 = x1 + GAP_X / 2, x2 + (GAP_X / 2 if same else -GAP_X / 2)
    yield f'<path class="link" d="M{x1:g} {y1:g} C{bend1:g} {y1:g} {bend2:g} {y2:g} {x2:g} {y2:g}"/>'
    yield from (f'<circle class="plug" cx="{x:g}" cy="{y:g}" r="4"/>' for x, y in ((x1, y1), (x2, y2)))


def _box(box: _Box) -> Iterator[str]:
    yield f'<rect class="box" x="{box.x:g}" y="{box.y:g}" width="{box.width:g}" height="{box.height:g}" rx="8"/>'
    x = box.x + PADDING
    lines = [("name", box.namespace.name), *(("note", note) for note in box.namespace.notes)]
    for number, (kind, text) in enumerate(lines):
        # The baseline is a third of the font's size below the middle of the row.
        y = box.y + PADDING + (number + 0.5) * ROW + FONT_SIZE / 3
        yield f'<text class="{kind}" x="{x:g}" y="{y:.1f}">{_text(text)}</text>'
    for each in box.namespace.rows:
        middle = box.row_y(each.name)
        if each.is_bridge:
            yield f'<rect class="bridge" x="{box.x + 6:g}" y="{middle - ROW / 2:g}" width="{box.width - 12:g}" height="{ROW}" rx="4"/>'
        left = x + INDENT * (each.bridge is not None)
        yield f'<text x="{left:g}" y="{middle + FONT_SIZE / 3:.1f}">{_text(each.text)}</text>'


def _text(text: str) -> str:
    # XML cannot represent control characters.
    return escape(re.sub(r"[\x00-\x1f\x7f\ud800-\udfff\ufffe\uffff]", "?", text))
