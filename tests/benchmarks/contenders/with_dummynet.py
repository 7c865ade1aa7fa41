"""The picture "pair" with pytest-dummynet."""

import logging

from pytest_dummynet import DummyNet, HostShell

from tests.benchmarks.contenders.protocol import serve

log = logging.getLogger("benchmark")
log.addHandler(logging.NullHandler())
net: DummyNet


def up() -> None:
    global net
    net = DummyNet(shell=HostShell(log=log, sudo=False))
    red, blue = net.netns_add("red"), net.netns_add("blue")
    net.link_veth_add("veth-red", "veth-blue")
    for inside, end, address in ((red, "veth-red", "192.168.15.1/24"), (blue, "veth-blue", "192.168.15.2/24")):
        net.link_set("red" if inside is red else "blue", end)
        inside.addr_add(address, end)
        inside.up(end)
        inside.up("lo")


def down() -> None:
    for name in ("red", "blue"):
        net.netns_delete(name)


serve(up, down)
