"""dummy: an interface that discards what it sends, for addresses that do not depend on a link; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind

KIND = LinkKind("dummy")
