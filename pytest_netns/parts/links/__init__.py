"""Kinds of interfaces, and what joins namespaces; pure."""
