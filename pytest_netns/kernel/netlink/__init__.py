"""Netlink: the wire format, sockets, and what is asked of the kernel with them."""
