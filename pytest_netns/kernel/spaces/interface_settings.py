"""IPv4 settings of interfaces over netlink: read in a new namespace, and written per interface if /proc/sys is read-only.

The kernel accepts only the settings below net.ipv4.conf.INTERFACE that way: neither those of a whole
namespace, such as ping_group_range, nor any IPv6 setting; rtnetlink(7).
"""

from __future__ import annotations

from pytest_netns.kernel.netlink import rtlinks
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.socket import NetlinkSocket

FORWARDING = "ipv4/ip_forward"
# The per-interface setting that a setting for all interfaces sets; "default" ones apply to later interfaces only.
_ALL = {
    FORWARDING: rtlinks.IPV4_FORWARDING,
    "ipv4/conf/all/forwarding": rtlinks.IPV4_FORWARDING,
    "ipv4/conf/all/rp_filter": rtlinks.IPV4_RP_FILTER,
    "ipv4/conf/all/route_localnet": rtlinks.IPV4_ROUTE_LOCALNET,
}
_DEFAULT = {
    "ipv4/conf/default/forwarding": rtlinks.IPV4_FORWARDING,
    "ipv4/conf/default/rp_filter": rtlinks.IPV4_RP_FILTER,
}
_NUMBERS = _ALL | _DEFAULT
READ_INHERITED = rtlinks.get_ipv4_settings("all"), rtlinks.get_ipv4_settings("default")
_INHERITED = (
    (FORWARDING, "ipv4/conf/all/rp_filter"),
    ("ipv4/conf/default/forwarding", "ipv4/conf/default/rp_filter"),
)
_refused: dict[str, None] = {}


class InterfaceSettings:
    """The settings a namespace inherits from the host, and those set on each interface if /proc/sys is read-only."""

    def __init__(self, netlink: NetlinkSocket) -> None:
        self._netlink = netlink
        self._values: dict[int, int] = {}

    def inherited_after(self, change: Request) -> dict[str, str]:
        """Make a change; then the current values, by key, of the settings that a new namespace inherits, as far as the kernel tells."""
        values: dict[str, str] = {}
        found = self._netlink.get_after(change, READ_INHERITED, rtlinks.parse_ipv4_settings)
        for keys, settings in zip(_INHERITED, found, strict=True):
            if settings is not None:
                values |= zip(keys, settings, strict=True)
        return values

    def write(self, key: str, value: str) -> bool:
        """Set it on all existing and future interfaces; returns False if it cannot be set that way."""
        if key not in _NUMBERS or not value.isdecimal():
            return False
        self._values[_NUMBERS[key]] = int(value)
        if key in _DEFAULT:
            return True
        links = self._netlink.dump(rtlinks.dump_links(), rtlinks.parse_link)
        self._netlink.request(*(request for link in links for request in self.requests_for(link.index, link.name)))
        return True

    def read(self, key: str) -> str | None:
        """The value written; None if it was not written over netlink."""
        value = self._values.get(_NUMBERS.get(key, 0))
        return None if value is None else str(value)

    def requests_for(self, index: int, name: str) -> list[Request]:
        """The requests that apply the settings to a new interface."""
        return [rtlinks.set_ipv4_settings(index, name, self._values)] if self._values else []


def note_refused(setting: str) -> None:
    """Record a setting that was refused."""
    _refused[setting] = None


def refused() -> list[str]:
    """The settings refused to namespaces of this process, each once."""
    return list(_refused)
