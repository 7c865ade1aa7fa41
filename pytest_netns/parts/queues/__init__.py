"""Queueing disciplines of the kernel's traffic control, as the values the kernel takes; pure."""
