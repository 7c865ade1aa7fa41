"""A sketch as lines of text, and as the text of a Mermaid diagram."""

from __future__ import annotations

from collections.abc import Iterator

from pytest_netns.drawing.sketch import Place, Sketch, SketchInterface, SketchNamespace

# A namespace with more notes than this gets its own block.
NOTES_AT_END = 2


def draw_text(sketch: Sketch) -> str:
    """A block of lines for each namespace; one with a single link is shown at its other end."""
    order = {name: n for n, name in enumerate(_in_order(sketch))}
    ends = {name for name in order if _is_end(sketch, name)}
    inlined = {name for name in ends if (peer := sketch.neighbours(name)[0]) not in ends or order[peer] < order[name]}
    blocks = ["\n".join(_block(sketch, sketch.named(name), inlined)) for name in order if name not in inlined]
    return "\n\n".join(blocks) + "\n" if blocks else ""


def _in_order(sketch: Sketch) -> list[str]:
    return [name for island in sketch.islands() for layer in island for name in layer]


def _is_end(sketch: Sketch, name: str) -> bool:
    namespace = sketch.named(name)
    neighbours = [each for each in sketch.neighbours(name) if each != name]
    return len(namespace.interfaces) == len(neighbours) == 1 and len(namespace.notes) <= NOTES_AT_END


def _block(sketch: Sketch, namespace: SketchNamespace, inlined: set[str]) -> Iterator[str]:
    rows = namespace.rows
    lefts = [branch + row.text for branch, row in zip(_branches(rows), rows, strict=True)]
    cabled = [left for left, row in zip(lefts, rows, strict=True) if (namespace.name, row.name) in sketch.peers]
    width = max(map(len, cabled), default=0)
    yield f"[{namespace.name}]"
    yield from (f"{'│' if rows else ' '}  {note}" for note in namespace.notes)
    for left, row in zip(lefts, rows, strict=True):
        peer = sketch.peers.get((namespace.name, row.name))
        yield left if peer is None else f"{left} ".ljust(width + 4, "─") + f" {_far_end(sketch, peer, inlined)}"


def _branches(rows: list[SketchInterface]) -> list[str]:
    """The prefix of each row: a branch of the tree of the namespace and its bridges."""
    branches: list[str] = []
    place = {row.name: n for n, row in enumerate(rows)}
    below: str | None = None
    # From the last row up: a row is the last of its kind unless one of that kind was already seen.
    trunk, twig = " ", " "
    for n in range(len(rows) - 1, -1, -1):
        plugged = place.get(rows[n].bridge or "", n) < n
        if plugged:
            branches.append(f"{trunk}  {'├' if below == rows[n].bridge else '└'}─ ")
        else:
            branches.append(f"{'├' if trunk == '│' else '└'}─ ")
            trunk = "│"
        below = rows[n].bridge if plugged else twig
    return branches[::-1]


def _far_end(sketch: Sketch, peer: Place, inlined: set[str]) -> str:
    there = sketch.named(peer[0])
    interface = there.rows[there.row_numbers[peer[1]]]
    notes = there.notes if there.name in inlined else ()
    return " · ".join([f"[{there.name}] {interface.text}", *notes])


def draw_mermaid(sketch: Sketch) -> str:
    """A Mermaid flowchart: a subgraph for each namespace, a node for each interface, an edge for each link."""
    lines = ["flowchart LR"]
    ids: dict[Place, str] = {}
    for n, name in enumerate(_in_order(sketch)):
        namespace = sketch.named(name)
        lines.append(f'  subgraph n{n}["{"<br/>".join(map(_escape, [name, *namespace.notes]))}"]')
        for m, each in enumerate(namespace.rows):
            ids[name, each.name] = f"n{n}i{m}"
            label = "<br/>".join(map(_escape, each.text.split("  ")))
            lines.append(f'    n{n}i{m}{{{{"{label}"}}}}' if each.is_bridge else f'    n{n}i{m}["{label}"]')
        if not namespace.interfaces:
            # An empty subgraph is an error.
            lines.append(f'    n{n}i[" "]')
        lines.append("  end")
    for namespace in sketch.namespaces:
        for each in namespace.interfaces:
            if each.bridge is not None and (namespace.name, each.bridge) in ids:
                lines.append(f"  {ids[namespace.name, each.bridge]} --- {ids[namespace.name, each.name]}")
    lines += [f"  {ids[a]} === {ids[b]}" for a, b in sketch.connections]
    return "\n".join(lines) + "\n"


def _escape(text: str) -> str:
    for character, code in (("#", "#35;"), ('"', "#quot;"), ("<", "#lt;"), (">", "#gt;")):
        text = text.replace(character, code)
    return text
