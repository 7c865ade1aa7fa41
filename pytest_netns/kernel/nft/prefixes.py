"""Stateless IPv6 prefix translation (NPTv6, RFC 6296): with the ip6tables targets SNPT and DNPT, as nft has no equivalent."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from typing import NamedTuple

from pytest_netns.errors import RulesetError, UnavailableError
from pytest_netns.kernel.nft.command import ADMIN_PATH
from pytest_netns.kernel.nft.nftables import Place

FEATURE = "IPv6 prefix translation"
_REMEDY = "sudo apt-get install iptables (Fedora: sudo dnf install iptables-nft)"
_COUNTS = re.compile(r"^\[(\d+):(\d+)\] -A .*--comment \"?(\S+?)\"? ", re.MULTILINE)


class Rule(NamedTuple):
    """One prefix translation.

    Attributes:
        identity: its rules' comment.
        inner, outer: the internal and the external prefix.
        out: the external interface.
    """

    identity: str
    inner: str
    outer: str
    out: str

    def arguments(self) -> list[list[str]]:
        """The ip6tables arguments of the rules for outgoing and incoming packets."""
        comment = ["-m", "comment", "--comment", self.identity]
        return [
            ["POSTROUTING", "-o", self.out, "-s", self.inner, *comment, "-j", "SNPT", "--src-pfx", self.inner, "--dst-pfx", self.outer],
            ["PREROUTING", "-i", self.out, "-d", self.outer, *comment, "-j", "DNPT", "--src-pfx", self.outer, "--dst-pfx", self.inner],
        ]  # fmt: skip


def add(place: Place, rule: Rule) -> None:
    """Add a translation.

    Raises:
        UnavailableError: ip6tables is not installed, or the kernel lacks the targets.
    """
    _check()
    for arguments in rule.arguments():
        try:
            _run(place, "ip6tables", "-t", "mangle", "-A", *arguments)
        except RulesetError as error:
            remove(place, rule)
            cause = error.nft_message.strip().splitlines()[0]
            raise UnavailableError(
                FEATURE, cause, "a kernel with CONFIG_IP6_NF_TARGET_NPT (module ip6t_NPT)"
            ) from error


def remove(place: Place, rule: Rule) -> None:
    """Remove a translation, or what is left of it."""
    present = counts(place, rule)
    for arguments in rule.arguments()[: len(present)]:
        _run(place, "ip6tables", "-t", "mangle", "-D", *arguments)


def counts(place: Place, rule: Rule) -> list[tuple[int, int]]:
    """The packets and bytes of its rules; fewer than two if a rule has been deleted."""
    listed = _run(place, "ip6tables-save", "-c", "-t", "mangle")
    return [
        (int(packets), int(octets))
        for packets, octets, identity in _COUNTS.findall(listed)
        if identity == rule.identity
    ]


def _check() -> None:
    if _find("ip6tables") is None:
        raise UnavailableError(FEATURE, "the program ip6tables is not installed", _REMEDY)


def _find(program: str) -> str | None:
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:{ADMIN_PATH}")


def _run(place: Place, program: str, *arguments: str) -> str:
    argv = [_find(program) or program, *arguments]
    with place.entered():
        completed = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    if completed.returncode != 0:
        raise RulesetError(" ".join(argv), completed.stderr, namespace=place.name)
    return completed.stdout
