"""The fixtures."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from pytest_netns.plugin import marker
from pytest_netns.plugin.marker import BODY_INSIDE
from pytest_netns.plugin.state import LAB, RUN, ServiceDiedWarning

if TYPE_CHECKING:
    from pytest_netns.lab.factory import LabFactory
    from pytest_netns.lab.lab import Lab


# The request of the fixture being set up: using the fixture "request" or "pytestconfig" would take 0.05 to 0.1 ms.
_current_request: pytest.FixtureRequest | None = None


def note_request(request: pytest.FixtureRequest) -> None:
    """Record the request of a fixture that is about to be set up."""
    global _current_request
    _current_request = request


def _request() -> pytest.FixtureRequest:
    """The request of the fixture being set up."""
    global _current_request
    request, _current_request = _current_request, None
    if request is None:
        pytest.fail(
            "cannot set up netns: another plugin sets up this test's fixtures itself, without pytest's hooks "
            "(pytest-asyncio-cooperative does); write `with Lab() as lab:` in the test",
            pytrace=False,
        )
    return request


@pytest.fixture
def netns() -> Iterator[Lab]:
    """A `Lab` for this test: empty, or what its marker or an indirect parameter builds."""
    from pytest_netns.lab import factory
    from pytest_netns.plugin import failing

    request = _request()
    node, parameter = request.node, getattr(request, "param", None)
    # With a parameter it may have a wider scope: then its packets belong to no single test.
    settings = node.config.stash[RUN].settings
    recorded = request.scope == "function" and settings.pcap != "off"
    with factory.open_lab(node.nodeid, recorded=recorded, engine=settings.impairments) as lab:
        node.stash[LAB] = lab
        factory.build_parameter(lab, parameter, node.path, node.config.rootpath)
        asked = node.stash.get(marker.MARKER, None)
        if asked is None or BODY_INSIDE in node.fixturenames:
            yield lab
        else:
            with marker.body_inside(lab, asked, node):
                yield lab
        for service in failing.dead_services(lab):
            warnings.warn(ServiceDiedWarning(service), stacklevel=1)


@pytest.fixture
def netns_pair(netns: Lab) -> Lab:
    """`netns` with two namespaces joined by a veth pair: red 192.168.15.1/24, blue 192.168.15.2/24."""
    return _build_picture(netns, "pair")


@pytest.fixture
def netns_lan(netns: Lab) -> Lab:
    """`netns` with red and blue on host's bridge v-net-0; host is 192.168.15.5 and the default gateway."""
    return _build_picture(netns, "lan")


@pytest.fixture
def netns_nat(netns: Lab) -> Lab:
    """`netns_lan` and outside 192.168.1.3/24, joined to host's eth0 192.168.1.2/24; host masquerades."""
    return _build_picture(netns, "nat")


def _build_picture(lab: Lab, name: str) -> Lab:
    from pytest_netns.lab import factory

    return factory.build_picture(lab, name)


@pytest.fixture(scope="session")
def netns_factory(pytestconfig: pytest.Config) -> LabFactory:
    """Labs for fixtures of wider scope: ``with netns_factory.lab() as lab: yield lab``."""
    return pytestconfig.stash[RUN].factory


@pytest.fixture(name=BODY_INSIDE)
def netns_body_inside(netns: Lab) -> Iterator[None]:
    """Run a test's body inside if its `netns` fixture is replaced; otherwise `netns` does so."""
    node = _request().node
    with marker.body_inside(netns, node.stash[marker.MARKER], node):
        yield
