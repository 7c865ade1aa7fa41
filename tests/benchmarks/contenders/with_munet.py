"""The picture "pair" with munet: two namespaces and a link."""

import asyncio
import logging
import tempfile

from munet.base import BaseMunet

from tests.benchmarks.contenders.protocol import serve

logging.disable(logging.CRITICAL)
net: BaseMunet


def up() -> None:
    global net
    net = BaseMunet(isolated=False, rundir=tempfile.mkdtemp(prefix="munet-"))
    red, blue = net.add_host("red"), net.add_host("blue")
    net.add_link(red, blue, "veth-red", "veth-blue")
    red.cmd_raises("ip address add 192.168.15.1/24 dev veth-red")
    blue.cmd_raises("ip address add 192.168.15.2/24 dev veth-blue")


serve(up, lambda: asyncio.run(net.async_delete()))
