"""Queueing disciplines of the kernel's traffic control, as values for the kernel; pure."""
