"""Fault injection, to test how software reacts to a failing network."""
