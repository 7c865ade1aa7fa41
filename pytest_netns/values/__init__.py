"""Parsers for users' values: names, addresses, ports, targets.

Pure: nothing here talks to the kernel. Every function raises `InvalidTopologyError` with a message
that names the value and valid ones.
"""

from __future__ import annotations

from pytest_netns.values.addresses import (
    MAC_PATTERN,
    MAX_MTU,
    MIN_MTU,
    IPAddress,
    IPInterface,
    IPNetwork,
    parse_address,
    parse_destination,
    parse_interface_address,
    parse_mac,
    parse_mtu,
    parse_network,
)
from pytest_netns.values.choices import PROTOCOLS, SUGGESTED, parse_choice, parse_protocol, suggest
from pytest_netns.values.names import (
    HOSTNAME_PATTERN,
    INTERFACE_NAME_PATTERN,
    MAX_NAME,
    NAME_PATTERN,
    RESERVED_INTERFACE_NAMES,
    SYSCTL_PATTERN,
    parse_device_name,
    parse_hostname,
    parse_interface_name,
    parse_name,
    parse_sysctl_name,
    parse_sysctl_value,
)
from pytest_netns.values.paths import parse_files, parse_path, parse_private
from pytest_netns.values.ports import PortRange, Ports, as_range, parse_port, parse_ports
from pytest_netns.values.targets import (
    Target,
    parse_gateway,
    parse_service_port,
    parse_service_ports,
    parse_target,
)

__all__ = [
    "HOSTNAME_PATTERN",
    "INTERFACE_NAME_PATTERN",
    "IPAddress",
    "IPInterface",
    "IPNetwork",
    "MAC_PATTERN",
    "MAX_MTU",
    "MAX_NAME",
    "MIN_MTU",
    "NAME_PATTERN",
    "PROTOCOLS",
    "RESERVED_INTERFACE_NAMES",
    "SUGGESTED",
    "SYSCTL_PATTERN",
    "PortRange",
    "Ports",
    "Target",
    "as_range",
    "parse_address",
    "parse_choice",
    "parse_destination",
    "parse_gateway",
    "parse_hostname",
    "parse_interface_address",
    "parse_interface_name",
    "parse_mac",
    "parse_mtu",
    "parse_device_name",
    "parse_files",
    "parse_path",
    "parse_private",
    "parse_name",
    "parse_network",
    "parse_port",
    "parse_ports",
    "parse_protocol",
    "parse_service_port",
    "parse_service_ports",
    "parse_sysctl_name",
    "parse_sysctl_value",
    "parse_target",
    "suggest",
]
