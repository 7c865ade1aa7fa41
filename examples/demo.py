"""The picture with real packets: builds it, tries every connection, and prints the results.

Run it with ``make demo``, as root or as an ordinary user.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

from pytest_netns import PICTURES, CommandError, Lab, Namespace, NetnsError, become_rootless
from pytest_netns.kernel.programs import supervision
from pytest_netns.kernel.spaces import destruction

PICTURE = """
   outside 192.168.1.3                         "the internet": nothing here knows 192.168.15.0/24
        |
     eth0 192.168.1.2
   +----------------------- host -----------------------+
   |  v-net-0 (bridge) 192.168.15.5/24, masquerade      |
   +------+--------------------------------+------------+
    veth-red-br                       veth-blue-br
          |                                |
      veth-red                         veth-blue
      red 192.168.15.1                 blue 192.168.15.2
"""
SERVER = """
import http.server

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(f"hello from blue, dear {self.client_address[0]}".encode())

http.server.HTTPServer(("", 80), Handler).serve_forever()
"""


def main() -> int:
    """Show the picture; the exit status tells whether everything was as expected."""
    become_rootless()
    print(PICTURE)
    started = time.perf_counter()
    lab = Lab("demo")
    lab.build(PICTURES["nat"])
    built = time.perf_counter()
    print(
        f"Built in {(built - started) * 1000:.1f} ms (the first time, with imports): 4 namespaces, 3 links, 1 bridge, NAT.\n"
    )
    show_namespaces(lab)
    good = show_connections(lab)
    closing = time.perf_counter()
    lab.close()
    closed = time.perf_counter()
    destruction.hub().wait(closed + destruction.GRACE)
    left = len(destruction.hub().alive())
    gone = time.perf_counter()
    print(
        f"\nClosed in {(closed - closing) * 1000:.1f} ms; {(gone - closed) * 1000:.1f} ms later the kernel had freed them; {left} namespaces left."
    )
    started = time.perf_counter()
    with Lab("demo again") as again:
        again.build(PICTURES["nat"])
        built = time.perf_counter()
    print(
        f"A second time: built in {(built - started) * 1000:.1f} ms, closed in {(time.perf_counter() - built) * 1000:.1f} ms."
    )
    supervision.close()
    return 0 if good and not left else 1


def show_namespaces(lab: Lab) -> None:
    """Print each namespace's addresses and routes."""
    for namespace in lab:
        print(f"{namespace.name}:")
        for interface in namespace.interfaces.values():
            addresses = ", ".join(str(address) for address in interface.addresses if not address.ip.is_link_local)
            print(f"    {interface.name:13} {addresses}")
        for route in namespace.routes():
            if not route.destination.is_link_local:
                print(f"    {'route':13} {route}")


def show_connections(lab: Lab) -> bool:
    """Try every connection; returns whether each result matches the picture."""
    red, blue, host, outside = (lab[name] for name in ("red", "blue", "host", "outside"))
    blue.start([sys.executable, "-c", SERVER], ready=80)
    fetch = ["curl", "-sS", "--max-time", "2"]
    tries: list[tuple[str, bool, Callable[[], object]]] = [
        ("red reaches blue over the bridge", True, lambda: ping(red, "192.168.15.2")),
        ("host reaches red", True, lambda: ping(host, "192.168.15.1")),
        ("red reaches outside, as 192.168.1.2 (masquerade)", True, lambda: ping(red, "192.168.1.3")),
        ("outside has no route to blue", False, lambda: ping(outside, "192.168.15.2")),
        (
            "outside connects to 192.168.1.2:8080: refused",
            False,
            lambda: outside.run([*fetch, "http://192.168.1.2:8080/"]),
        ),
        ("... now host forwards port 8080 to blue:80", True, lambda: host.forward_port(8080, to="blue:80")),
        (
            "outside connects to 192.168.1.2:8080 again",
            True,
            lambda: outside.run([*fetch, "http://192.168.1.2:8080/"]).stdout,
        ),
        (
            "red connects to the same address (hairpin)",
            True,
            lambda: red.run([*fetch, "http://192.168.1.2:8080/"]).stdout,
        ),
        ("red sees only its own processes", True, lambda: red.run("ps -e -o pid=,comm=").stdout),
    ]
    print()
    good = True
    for title, expected, attempt in tries:
        try:
            outcome, worked = attempt(), True
        except (CommandError, NetnsError) as error:
            outcome, worked = error, False
        good &= worked is expected
        print(f"{'ok  ' if worked is expected else 'FAIL'} {title:52} {summary(outcome)}")
    return good


def ping(namespace: Namespace, address: str) -> str:
    """One echo request; returns the line of the reply."""
    return namespace.run(["ping", "-c1", "-W1", address]).stdout.splitlines()[1]


def summary(outcome: object) -> str:
    """A result in one line."""
    if isinstance(outcome, CommandError):
        lines = (outcome.stderr or outcome.stdout).strip().splitlines()
        return lines[-1] if lines and lines[-1] else f"exit status {outcome.returncode}"
    return "" if outcome is None else " | ".join(str(outcome).split("\n")).strip(" |")


if __name__ == "__main__":
    sys.exit(main())
