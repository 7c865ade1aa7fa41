"""What this machine can do, determined by trying, and how to get namespaces without root."""
