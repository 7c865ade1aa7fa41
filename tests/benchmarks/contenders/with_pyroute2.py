"""The picture "pair" with pyroute2's IPRoute and its named namespaces."""

from pyroute2 import IPRoute, netns

from tests.benchmarks.contenders.protocol import serve


def up() -> None:
    for name in ("red", "blue"):
        netns.create(name)
    red, blue = IPRoute(netns="red"), IPRoute(netns="blue")
    try:
        with IPRoute() as here:
            here.link("add", ifname="bm-red", kind="veth", peer={"ifname": "bm-blue"})
            for end, name in (("bm-red", "red"), ("bm-blue", "blue")):
                here.link("set", index=here.link_lookup(ifname=end)[0], net_ns_fd=name)
        for inside, end, address in ((red, "bm-red", "192.168.15.1"), (blue, "bm-blue", "192.168.15.2")):
            index = inside.link_lookup(ifname=end)[0]
            inside.link("set", index=1, state="up")
            inside.addr("add", index=index, address=address, prefixlen=24)
            inside.link("set", index=index, state="up")
    finally:
        red.close()
        blue.close()


def down() -> None:
    for name in ("red", "blue"):
        netns.remove(name)


serve(up, down)
