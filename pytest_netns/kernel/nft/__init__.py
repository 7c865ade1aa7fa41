"""nftables, through its official Python bindings."""
