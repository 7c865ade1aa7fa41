"""Network namespaces: creation, entering, configuration, and supervision until the kernel has freed them."""
