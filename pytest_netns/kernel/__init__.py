"""Everything that talks to Linux. Imports nothing from above but errors.py."""
