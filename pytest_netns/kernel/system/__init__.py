"""Processes, privileges, system calls and /proc."""
