"""Every test gets its own network: Linux network namespaces, veth pairs, bridges, NAT and port forwards.

Names are loaded at their first use, so that a suite that does not use the plugin does not pay for it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from pytest_netns.errors import (
        CallTimeout,
        CommandError,
        CommandTimeout,
        InvalidTopologyError,
        KernelError,
        LabClosedError,
        NetnsError,
        NotReadyError,
        RulesetError,
        UnavailableError,
    )
    from pytest_netns.faults import partitions
    from pytest_netns.faults.cuts import Cut
    from pytest_netns.faults.nemesis import Nemesis, NemesisEvent
    from pytest_netns.lab.bridge import Bridge
    from pytest_netns.lab.factory import LabFactory
    from pytest_netns.lab.firewalls import CaptivePortal, Firewall, FirewallRule
    from pytest_netns.lab.gateways import GatewayRule, Masquerade, Nat, PortForward, PrefixTranslation, Snat
    from pytest_netns.lab.interface import Interface
    from pytest_netns.lab.lab import Lab
    from pytest_netns.lab.namespace import Namespace
    from pytest_netns.lab.openvswitch import OpenVSwitch
    from pytest_netns.lab.routing import Neighbour, NextHop, Route, Rule
    from pytest_netns.lab.veth_pair import VethPair
    from pytest_netns.machine.rootless import become_rootless
    from pytest_netns.machine.uplink import Uplink
    from pytest_netns.packets.capture import Capture
    from pytest_netns.packets.dissect import Headers, Packet
    from pytest_netns.parts.gateway.nat import NatKind
    from pytest_netns.parts.impairment import DSL, INTERCONTINENTAL, LTE, SATELLITE, UMTS, WIFI, Impairment
    from pytest_netns.plugin import NamespaceLeakWarning, OutsideNamespaceWarning, ServiceDiedWarning
    from pytest_netns.running.halting import Healable
    from pytest_netns.running.process import Process
    from pytest_netns.running.service import Service
    from pytest_netns.running.terminal import TerminalProcess
    from pytest_netns.topology import (
        PICTURES,
        BridgeSpec,
        FirewallRuleSpec,
        FirewallSpec,
        LinkSpec,
        MasqueradeSpec,
        NamespaceSpec,
        NatSpec,
        OneToOneSpec,
        PortForwardSpec,
        PortSpec,
        RouteSpec,
        SnatSpec,
        Topology,
        VethEnd,
        VethSpec,
    )
    from pytest_netns.topology.plan import PlannedInterface
    from pytest_netns.values import PortRange, Target

_NAMES = {
    "faults.cuts": "Cut",
    "faults.nemesis": "Nemesis NemesisEvent",
    "errors": "CallTimeout CommandError CommandTimeout InvalidTopologyError KernelError LabClosedError NetnsError NotReadyError RulesetError UnavailableError",
    "lab.firewalls": "CaptivePortal Firewall FirewallRule",
    "lab.gateways": "GatewayRule Masquerade Nat PortForward PrefixTranslation Snat",
    "lab.bridge": "Bridge",
    "lab.interface": "Interface",
    "lab.veth_pair": "VethPair",
    "lab.lab": "Lab",
    "lab.namespace": "Namespace",
    "lab.openvswitch": "OpenVSwitch",
    "machine.uplink": "Uplink",
    "parts.impairment": "DSL INTERCONTINENTAL Impairment LTE SATELLITE UMTS WIFI",
    "packets.capture": "Capture",
    "packets.dissect": "Headers Packet",
    "parts.gateway.nat": "NatKind",
    "lab.routing": "Neighbour NextHop Route Rule",
    "lab.factory": "LabFactory",
    "machine.rootless": "become_rootless",
    "plugin": "NamespaceLeakWarning OutsideNamespaceWarning ServiceDiedWarning",
    "running.halting": "Healable",
    "running.process": "Process",
    "running.service": "Service",
    "running.terminal": "TerminalProcess",
    "topology": "BridgeSpec FirewallRuleSpec FirewallSpec LinkSpec MasqueradeSpec NamespaceSpec NatSpec OneToOneSpec PICTURES PortForwardSpec PortSpec RouteSpec SnatSpec Topology VethEnd VethSpec",
    "topology.plan": "PlannedInterface",
    "values": "PortRange Target",
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names.split()}

__all__ = [
    "become_rootless",
    "Bridge",
    "BridgeSpec",
    "CallTimeout",
    "CaptivePortal",
    "Capture",
    "CommandError",
    "CommandTimeout",
    "Cut",
    "DSL",
    "Firewall",
    "FirewallRule",
    "FirewallRuleSpec",
    "FirewallSpec",
    "GatewayRule",
    "Headers",
    "Healable",
    "Impairment",
    "INTERCONTINENTAL",
    "Interface",
    "InvalidTopologyError",
    "KernelError",
    "Lab",
    "LabClosedError",
    "LabFactory",
    "LinkSpec",
    "LTE",
    "Masquerade",
    "MasqueradeSpec",
    "Namespace",
    "NamespaceLeakWarning",
    "NamespaceSpec",
    "Nat",
    "NatKind",
    "NatSpec",
    "Neighbour",
    "Nemesis",
    "NemesisEvent",
    "NetnsError",
    "NextHop",
    "NotReadyError",
    "OneToOneSpec",
    "OpenVSwitch",
    "OutsideNamespaceWarning",
    "Packet",
    "partitions",
    "PICTURES",
    "PlannedInterface",
    "PortForward",
    "PortForwardSpec",
    "PortRange",
    "PortSpec",
    "PrefixTranslation",
    "Process",
    "Route",
    "RouteSpec",
    "Rule",
    "RulesetError",
    "SATELLITE",
    "Service",
    "ServiceDiedWarning",
    "Snat",
    "SnatSpec",
    "Target",
    "TerminalProcess",
    "Topology",
    "UMTS",
    "UnavailableError",
    "Uplink",
    "VethEnd",
    "VethPair",
    "VethSpec",
    "WIFI",
]


def __getattr__(name: str) -> Any:
    if name == "partitions":
        return importlib.import_module("pytest_netns.faults.partitions")
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"pytest_netns.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
