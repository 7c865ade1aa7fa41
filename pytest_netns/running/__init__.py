"""Programs and Python code in namespaces."""
