"""Everything that talks to the Linux kernel. Of the packages above it, it imports only errors and values."""
