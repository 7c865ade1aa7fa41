"""The picture "pair" with NeST: two nodes and a connection."""

import logging

from nest import config
from nest.topology import Node, connect
from nest.topology_map import TopologyMap

from tests.benchmarks.contenders.protocol import serve

logging.disable(logging.CRITICAL)
config.set_value("assign_random_names", False)
nodes: list[Node] = []


def up() -> None:
    red, blue = Node("red"), Node("blue")
    nodes.extend([red, blue])
    a, b = connect(red, blue)
    a.set_address("192.168.15.1/24")
    b.set_address("192.168.15.2/24")


def down() -> None:
    TopologyMap.delete_all_namespaces()
    nodes.clear()


serve(up, down)
