"""What this machine can do, found out by trying, and how to get namespaces without root."""
