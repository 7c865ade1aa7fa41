"""Explain a failed test: collect the state of its network (observing) and format it (report)."""
