"""Packets: captured, decoded, written to files."""
