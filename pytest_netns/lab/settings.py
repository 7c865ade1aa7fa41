"""Settings: the sysctls of a namespace, and those that were set. It knows no handle."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Callable, Generator, Mapping

from pytest_netns import values
from pytest_netns.errors import InvalidTopologyError, KernelError, UnavailableError
from pytest_netns.kernel.spaces import interface_settings, sysctls
from pytest_netns.kernel.spaces.netns import NetworkNamespace
from pytest_netns.kernel.system import diagnosis, ipv6

FORWARDING = "net.ipv4.ip_forward"


class Settings:
    """The kernel settings of a namespace.

    Args:
        name: the namespace's name, for errors.
        network: returns the namespace, while it is open.
    """

    __slots__ = ("_name", "_network", "_written")

    def __init__(self, name: str, network: Callable[[], NetworkNamespace]) -> None:
        self._name = name
        self._network = network
        self._written: dict[str, str] = {}

    @property
    def written(self) -> Mapping[str, str]:
        """The settings that users have set, with the values the kernel then had."""
        return self._written

    def read(self, name: str) -> str:
        """A setting's value."""
        network = self._network()
        with network.entered(), self._errors(f"read sysctl {name}"):
            key = _key(name)
            return network.interface_settings.read(key) or sysctls.read(key)

    def set(self, name: str, value: str | int) -> str:
        """Set a setting for a user; returns its value afterwards."""
        self.write({name: value})
        written = self._written[name] = self.read(name)
        return written

    def write(self, settings: Mapping[str, str | int]) -> None:
        """Write settings that belong to another feature, which is reported instead of them."""
        network = self._network()
        with network.entered():
            for name, value in settings.items():
                with self._errors(f"set sysctl {name} to {value}"):
                    network.write_sysctl(_key(name), str(value))

    def enable_forwarding(self) -> None:
        """Enable forwarding of IPv4 and IPv6; if /proc/sys is read-only or IPv6 is missing, of IPv4 only, which is noted."""
        try:
            self.write({FORWARDING: 1, "net.ipv6.conf.all.forwarding": 1})
        except UnavailableError as error:
            interface_settings.note_refused(f"forwarding of IPv6: {error.cause}; remedy: {error.remedy}")
        except KernelError as error:
            network = self._network()
            if error.errno != errno.EROFS or network.interface_settings.read(interface_settings.FORWARDING) != "1":
                raise
            cause, remedy = diagnosis.explain("sysctl", errno.EROFS)
            interface_settings.note_refused(f"forwarding of IPv6: {cause}; remedy: {remedy}")
        self._written[FORWARDING] = "1"

    @contextlib.contextmanager
    def _errors(self, action: str) -> Generator[None]:
        try:
            yield
        except FileNotFoundError:
            if "ipv6" in action and (lack := ipv6.missing()) is not None:
                raise lack from None
            raise InvalidTopologyError(f"cannot {action}: a network namespace has no setting of that name") from None
        except OSError as error:
            _, remedy = diagnosis.explain("sysctl", error.errno or 0)
            raise KernelError(action, error.errno or 0, namespace=self._name, remedy=remedy) from error


_DOTS_AND_SLASHES = str.maketrans("./", "/.")


def _key(name: str) -> str:
    """A setting's path below /proc/sys/net."""
    separator, path = values.parse_sysctl_name(name)[3], name[4:]
    # If dots are the separator, a slash stands for a dot in an interface's name, sysctl(8).
    return path if separator == "/" else path.translate(_DOTS_AND_SLASHES)
