"""Faults: what a test does to its network on purpose, to see how its software reacts."""
