"""dummy: an interface that takes whatever is sent by it, for addresses that do not depend on a cable; pure."""

from __future__ import annotations

from pytest_netns.parts.links.kinds.kind import LinkKind

KIND = LinkKind("dummy")
