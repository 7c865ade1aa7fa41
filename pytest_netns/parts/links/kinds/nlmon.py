"""nlmon: an interface on which netlink messages can be captured; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind

KIND = LinkKind("nlmon", has_own_mac=False)
