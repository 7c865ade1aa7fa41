"""A namespace with its settings; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from pytest_netns.parts import keys
from pytest_netns.parts.keys import REQUIRED, Part, many, one
from pytest_netns.values import IPAddress
from pytest_netns.values.notes import Note

FORWARDING = "forwarding"  # the note of a router in drawings and reports


@dataclass(frozen=True, init=False)
class NamespaceSpec(Part):
    """A namespace.

    Attributes:
        name: its name, and the host name inside.
        forwarding: whether it forwards packets between its interfaces (IPv4 and IPv6).
        sysctls: kernel settings as (name, value) pairs, in the order given.
        hostnames: additional names that resolve to it in the lab.
        nft: nft ruleset text, applied once the network is built.
        resolver: the name servers its commands use.
        hostname: the host name its programs see; default: its name.
        private: initially empty directories that are private to its programs.
        files: files that only its programs see, as (path, content) pairs.
    """

    name: str = field(metadata=one("name", keys.NAMESPACE, "The namespace's name, and the host name inside.", REQUIRED))
    forwarding: bool = field(
        metadata=one("forwarding", keys.FLAG, "Whether it forwards packets between its interfaces.", False)
    )
    sysctls: tuple[tuple[str, str], ...] = field(
        metadata=one("sysctls", keys.SYSCTLS, "Kernel settings below 'net'.", ())
    )
    hostnames: tuple[str, ...] = field(
        metadata=many("hostnames", keys.HOSTNAME, "Additional names that resolve to it.")
    )
    nft: str = field(metadata=one("nft", keys.NFT, "nft ruleset text, applied once the network is built.", ""))
    resolver: tuple[IPAddress, ...] = field(
        metadata=many("resolver", keys.ADDRESS, "The name servers its commands use.")
    )
    hostname: str | None = field(
        metadata=one("hostname", keys.HOSTNAME, "The host name its programs see; default its name.")
    )
    private: tuple[str, ...] = field(
        metadata=many("private", keys.DIRECTORY, "Initially empty directories that are private to its programs.")
    )
    files: tuple[tuple[str, str], ...] = field(
        metadata=one("files", keys.FILES, "Files that only its programs see: paths and contents.", ())
    )

    def __init__(
        self,
        name: str,
        *,
        forwarding: bool = False,
        sysctls: Mapping[str, str | int] | Iterable[tuple[str, str | int]] = (),
        hostnames: str | Iterable[str] = (),
        nft: str = "",
        resolver: str | IPAddress | Iterable[str | IPAddress] = (),
        hostname: str | None = None,
        private: str | Iterable[str] = (),
        files: Mapping[str, str] | Iterable[tuple[str, str]] = (),
    ) -> None:
        self._fill(
            name=name,
            forwarding=forwarding,
            sysctls=sysctls,
            hostnames=hostnames,
            nft=nft,
            resolver=resolver,
            hostname=hostname,
            private=private,
            files=files,
        )

    def notes(self) -> Iterator[Note]:
        """A note if it forwards."""
        if self.forwarding:
            yield Note(self.name, FORWARDING)
