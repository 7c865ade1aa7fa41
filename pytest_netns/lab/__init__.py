"""Lab and the handles it hands out: namespaces, interfaces, bridges."""
