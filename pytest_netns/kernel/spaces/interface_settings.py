"""IPv4 settings of all interfaces, over netlink: read in a new namespace, and written to each where /proc/sys is read-only.

The kernel takes the settings below net.ipv4.conf.INTERFACE that way, and nothing else: neither those of a whole
namespace, such as ping_group_range, nor any of IPv6; rtnetlink(7).
"""

from __future__ import annotations

from pytest_netns.errors import KernelError
from pytest_netns.kernel.netlink import rtlinks
from pytest_netns.kernel.netlink.request import Request
from pytest_netns.kernel.netlink.socket import NetlinkSocket

FORWARDING = "ipv4/ip_forward"
# What writing a setting for all interfaces means for each; one for later interfaces leaves those that are there.
_OF_EACH = {
    FORWARDING: rtlinks.IPV4_FORWARDING,
    "ipv4/conf/all/forwarding": rtlinks.IPV4_FORWARDING,
    "ipv4/conf/all/rp_filter": rtlinks.IPV4_RP_FILTER,
    "ipv4/conf/all/route_localnet": rtlinks.IPV4_ROUTE_LOCALNET,
}
_OF_LATER = {
    "ipv4/conf/default/forwarding": rtlinks.IPV4_FORWARDING,
    "ipv4/conf/default/rp_filter": rtlinks.IPV4_RP_FILTER,
}
_NUMBERS = _OF_EACH | _OF_LATER
_GET_OF_ALL, _GET_OF_LATER = rtlinks.get_ipv4_settings("all"), rtlinks.get_ipv4_settings("default")
_refused: dict[str, None] = {}


class InterfaceSettings:
    """What a namespace has from the host; and what each interface of it is given, nothing where /proc/sys can be written."""

    def __init__(self, netlink: NetlinkSocket) -> None:
        self._netlink = netlink
        self._values: dict[int, int] = {}

    def inherited(self) -> dict[str, str]:
        """By key, the settings that a new namespace has from the host, as it has them now; none where the kernel does not tell."""
        try:
            forwarding, rp_filter = self._netlink.get(_GET_OF_ALL, rtlinks.parse_ipv4_settings)
            later_forwarding, later_rp_filter = self._netlink.get(_GET_OF_LATER, rtlinks.parse_ipv4_settings)
        except (KernelError, KeyError):
            return {}
        return {
            FORWARDING: forwarding,
            "ipv4/conf/all/rp_filter": rp_filter,
            "ipv4/conf/default/forwarding": later_forwarding,
            "ipv4/conf/default/rp_filter": later_rp_filter,
        }

    def write(self, key: str, value: str) -> bool:
        """Set it on every interface there is, and those to come; False where that is not the way to set it."""
        if key not in _NUMBERS or not value.isdecimal():
            return False
        self._values[_NUMBERS[key]] = int(value)
        if key in _OF_LATER:
            return True
        links = self._netlink.dump(rtlinks.dump_links(), rtlinks.parse_link)
        self._netlink.request(*(request for link in links for request in self.of(link.index, link.name)))
        return True

    def read(self, key: str) -> str | None:
        """What was written; None where the setting is the kernel's."""
        value = self._values.get(_NUMBERS.get(key, 0))
        return None if value is None else str(value)

    def of(self, index: int, name: str) -> list[Request]:
        """What makes an interface that was just added like the others."""
        return [rtlinks.set_ipv4_settings(index, name, self._values)] if self._values else []


def note_refused(what: str) -> None:
    """Remember what namespaces had to do without."""
    _refused[what] = None


def refused() -> list[str]:
    """What namespaces of this process had to do without, each once."""
    return list(_refused)
