"""Lab and its handles: namespaces, interfaces, bridges."""
