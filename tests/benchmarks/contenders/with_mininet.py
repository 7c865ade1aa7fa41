"""The picture "pair" with Mininet: two hosts and a link."""

from mininet.log import setLogLevel
from mininet.net import Mininet

from tests.benchmarks.contenders.protocol import serve

setLogLevel("error")
net: Mininet


def up() -> None:
    global net
    net = Mininet(controller=None)
    red = net.addHost("red", ip="192.168.15.1/24")
    blue = net.addHost("blue", ip="192.168.15.2/24")
    net.addLink(red, blue)
    net.start()


serve(up, lambda: net.stop())  # noqa: PLW0108 - another network each time
