"""ifb: an interface to which incoming packets are redirected, so that they can be queued; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind

KIND = LinkKind("ifb")
