"""Netlink: the wire format, sockets and requests."""
