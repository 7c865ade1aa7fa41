"""What a failed test's report shows of its lab."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_netns.errors import show_argv

if TYPE_CHECKING:
    from pytest_netns.lab import Lab
    from pytest_netns.service import Service

SHOWN_LINES = 50


def sections(lab: Lab) -> list[tuple[str, str]]:
    """The recent output of services, and the commands that failed: (title, text)."""
    found = []
    for namespace in lab:
        for service in namespace._services:
            title = f"netns: output of {show_argv(service.args)} in {namespace.name}"
            text = "\n".join(service.output.splitlines()[-SHOWN_LINES:])
            if service.died:
                text += f"\n{show_death(service)}"
            found.append((title, text))
    if lab._failures:
        found.append(("netns: commands that failed", "\n".join(str(error) for error in lab._failures)))
    return found


def show_death(service: Service) -> str:
    """A sentence about a service that ended without having been stopped."""
    name = f"{show_argv(service.args)!r} in namespace {service.namespace.name!r}"
    return f"service {name} ended during the test, with exit status {service.returncode}"
