"""ifb: packets that come in by another interface are led here, so that they can be queued; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind

KIND = LinkKind("ifb")
