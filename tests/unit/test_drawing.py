"""Drawings show every namespace, interface, address and link, legibly and without overlaps."""

from __future__ import annotations

import itertools
import re
from xml.etree import ElementTree

import pytest

from pytest_netns.drawing import Sketch, SketchInterface, SketchNamespace, draw
from pytest_netns.errors import InvalidTopologyError
from pytest_netns.topology import PICTURES, BridgeSpec, NamespaceSpec, PortSpec, RouteSpec, Topology, VethEnd, VethSpec

CHAIN = Topology(
    namespaces=[NamespaceSpec(f"r{n}", forwarding=True) for n in (1, 2, 3)],
    veths=[
        VethSpec([VethEnd(a), VethEnd(b)], subnet=f"10.0.{n}.0/24", subnet6=f"fd00:{n}::/64")
        for n, (a, b) in enumerate(itertools.pairwise(["red", "r1", "r2", "r3", "blue"]))
    ],
    routes=[RouteSpec("red", "default", via="r1"), RouteSpec("blue", "default", via="r3")],
)
TWO_BRIDGES = Topology(
    bridges=[
        BridgeSpec(f"br{n}", subnet=f"10.{n}.0.0/24", gateway=True, ports=[PortSpec(f"h{n}{m}") for m in range(6)])
        for n in (1, 2)
    ],
)
RING = Topology(
    [NamespaceSpec("lonely")],
    veths=[
        *(VethSpec([VethEnd(f"a{n}"), VethEnd(f"a{(n + 1) % 5}")], subnet=f"10.0.{n}.0/24") for n in range(5)),
        VethSpec([VethEnd("solo"), VethEnd("solo")]),
    ],
)
ALL = {**PICTURES, "chain": CHAIN, "two bridges": TWO_BRIDGES, "ring": RING, "empty": Topology()}
SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("format", ["text", "mermaid", "svg"])
def test_everything_is_in_the_drawing(name: str, format: str) -> None:
    """Each namespace, interface and address of a topology is in each of its drawings."""
    drawing = ALL[name].draw(format)
    for namespace in ALL[name].namespace_names:
        assert re.search(rf"\b{namespace}\b", drawing)
    for each in ALL[name].interfaces:
        for text in (each.name, *map(str, each.addresses)):
            assert text in drawing


def test_the_picture_as_text() -> None:
    """The ready-made picture as text is this drawing."""
    assert (
        PICTURES["nat"].draw()
        == """\
[host]
│  forwarding
│  masquerade 192.168.15.0/24 out eth0
├─ v-net-0  192.168.15.5/24  bridge
│  ├─ veth-red-br ───────── [red] veth-red  192.168.15.1/24 · default via 192.168.15.5
│  └─ veth-blue-br ──────── [blue] veth-blue  192.168.15.2/24 · default via 192.168.15.5
└─ eth0  192.168.1.2/24 ─── [outside] eth0  192.168.1.3/24
"""
    )
    assert PICTURES["pair"].draw() == ("[red]\n└─ veth-red  192.168.15.1/24 ─── [blue] veth-blue  192.168.15.2/24\n")


@pytest.mark.parametrize(
    ("route", "words"),
    [
        (RouteSpec("red", "10.0.0.0/8", via="r1"), "10.0.0.0/8 via 10.1.1.2"),
        (
            RouteSpec("red", "10.0.0.0/8", via=["10.1.1.2", "10.1.1.3"]),
            "10.0.0.0/8 nexthop via 10.1.1.2 nexthop via 10.1.1.3",
        ),
        (RouteSpec("red", "10.0.0.0/8", via="r1", table=101), "10.0.0.0/8 via 10.1.1.2 table 101"),
        (RouteSpec("red", "10.0.0.0/8", dev="eth0", table="default"), "10.0.0.0/8 dev eth0 table default"),
        (RouteSpec("red", "10.0.0.0/8", type="unreachable"), "unreachable 10.0.0.0/8"),
        (RouteSpec("red", "10.0.0.0/8", via="r1", source="10.1.1.1"), "10.0.0.0/8 via 10.1.1.2 src 10.1.1.1"),
        (
            RouteSpec("red", "10.0.0.0/8", via="10.9.9.9", dev="eth0", onlink=True),
            "10.0.0.0/8 via 10.9.9.9 dev eth0 onlink",
        ),
    ],
)
def test_routes_are_written_as_ip_route_does(route: RouteSpec, words: str) -> None:
    """Type, all gateways, table, source and onlink are shown."""
    veth = VethSpec([VethEnd("red", name="eth0"), VethEnd("r1")], subnet="10.1.1.0/24")
    assert f"│  {words}" in Topology(veths=[veth], routes=[route]).draw().splitlines()


def test_routers_have_blocks_of_their_own() -> None:
    """In a chain each router is a block that shows both of its links; the ends are shown at their routers."""
    blocks = CHAIN.draw().split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == ["[r1]", "[r2]", "[r3]"]
    assert "[r1] veth-r1-2" in blocks[1]
    assert "[r3] veth-r3" in blocks[1]


@pytest.mark.parametrize("name", ALL)
def test_lines_of_text_branch_properly(name: str) -> None:
    """A branch that continues has a trunk below it, and one that ends has not."""
    for block in ALL[name].draw().split("\n\n"):
        lines = block.splitlines()
        for above, below in itertools.pairwise([*lines[1:], ""]):
            for column in (0, 3):
                goes_on = above[column : column + 1] in ("├", "│")
                assert (
                    goes_on == (below[column : column + 1] in ("├", "└", "│"))
                    or above[column : column + 1] not in "├│└"
                )


@pytest.mark.parametrize("name", ALL)
def test_nothing_overlaps_in_the_image(name: str) -> None:
    """Boxes are apart and inside the image, each text fits its box, and links cross no box."""
    root = ElementTree.fromstring(ALL[name].draw("svg"))
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    boxes = [_frame(each) for each in root.iter(f"{SVG}rect") if each.attrib["class"] == "box"]
    assert len(boxes) == len(ALL[name].namespace_names)
    assert all(0 < left < right < width and 0 < top < bottom < height for left, top, right, bottom in boxes)
    for a, b in itertools.combinations(boxes, 2):
        assert a[2] < b[0] or b[2] < a[0] or a[3] < b[1] or b[3] < a[1]
    baselines: set[tuple[float, float]] = set()
    for text in root.iter(f"{SVG}text"):
        x, y = float(text.attrib["x"]), float(text.attrib["y"])
        # A glyph of the widest of the fonts is 0.602 em of 13 pixels.
        end = x + 0.602 * 13 * len(text.text or "")
        assert any(left < x and end < right and top < y - 10 and y < bottom for left, top, right, bottom in boxes)
        assert (x, y) not in baselines
        baselines.add((x, y))
    for path in root.iter(f"{SVG}path"):
        for x, y in _points(path.attrib["d"]):
            assert not any(left < x < right and top < y < bottom for left, top, right, bottom in boxes)
            assert 0 < x < width


def _frame(rect: ElementTree.Element) -> tuple[float, float, float, float]:
    x, y, width, height = (float(rect.attrib[key]) for key in ("x", "y", "width", "height"))
    return x, y, x + width, y + height


def _points(path: str) -> list[tuple[float, float]]:
    """Points along a cubic curve, except for its ends, which are on the boxes' edges."""
    numbers = [float(each) for each in re.findall(r"-?[\d.]+", path)]
    x0, y0, x1, y1, x2, y2, x3, y3 = numbers
    return [
        (
            (1 - t) ** 3 * x0 + 3 * (1 - t) ** 2 * t * x1 + 3 * (1 - t) * t * t * x2 + t**3 * x3,
            (1 - t) ** 3 * y0 + 3 * (1 - t) ** 2 * t * y1 + 3 * (1 - t) * t * t * y2 + t**3 * y3,
        )
        for t in (n / 50 for n in range(1, 50))
    ]


@pytest.mark.parametrize("name", ALL)
def test_each_link_is_drawn_once(name: str) -> None:
    """There are as many links in the image and in the diagram as there are pairs of interfaces."""
    links = sum(each.peer is not None for each in ALL[name].interfaces) // 2
    assert ALL[name].draw("svg").count("<path") == links
    assert ALL[name].draw("mermaid").count(" === ") == links


def test_the_outside_is_left_and_the_lan_right() -> None:
    """Columns run from the outside over the host to the bridge's ports; a bridge comes before its ports."""
    assert Sketch.from_topology(PICTURES["nat"]).islands() == [[["outside"], ["host"], ["red", "blue"]]]
    assert Sketch.from_topology(PICTURES["lan"]).islands() == [[["host"], ["red", "blue"]]]
    assert Sketch.from_topology(CHAIN).islands() == [[["red"], ["r1"], ["r2"], ["r3"], ["blue"]]]
    assert len(Sketch.from_topology(RING).islands()) == 3


def test_any_text_is_escaped() -> None:
    """Names and notes of a live network can be any text: the image stays valid XML, the diagram keeps its quotes."""
    hostile = SketchNamespace("red", (SketchInterface('<b>&"', is_up=False),), ('note "x" <y> \x01 #1',))
    sketch = Sketch((hostile,))
    texts = [each.text for each in ElementTree.fromstring(draw(sketch, "svg")).iter(f"{SVG}text")]
    assert texts == ["red", 'note "x" <y> ? #1', '<b>&"  down']
    assert 'n0i0["#lt;b#gt;&#quot;<br/>down"]' in draw(sketch, "mermaid")
    assert '<b>&"  down' in draw(sketch)


def test_styles_stay_inside_the_image() -> None:
    """Each rule of the style names the image's class, so that a page with the image in it looks as before."""
    style = ElementTree.fromstring(PICTURES["pair"].draw("svg")).findtext(f"{SVG}style") or ""
    rules = [line for line in style.splitlines() if line]
    assert rules
    assert all(rule.startswith(".netns ") for rule in rules)


def test_an_unknown_format_is_refused() -> None:
    """An unknown format is refused with the known ones."""
    with pytest.raises(InvalidTopologyError, match=r"did you mean 'svg'\?"):
        PICTURES["pair"].draw("svgz")


def test_a_large_network_is_drawn() -> None:
    """A bridge with 200 ports and a chain of 50 routers can be drawn."""
    star = Topology.inline([f"n{n}" for n in range(200)])
    chain = Topology(
        veths=[VethSpec([VethEnd(f"r{n}"), VethEnd(f"r{n + 1}")], subnet=f"10.0.{n}.0/24") for n in range(50)]
    )
    for topology in (star, chain):
        for format in ("text", "mermaid", "svg"):
            assert len(topology.draw(format).splitlines()) >= 50
