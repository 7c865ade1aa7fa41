"""Bridges, veth pairs, and the other kinds of interfaces; pure."""
