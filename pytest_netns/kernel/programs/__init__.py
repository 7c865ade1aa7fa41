"""Programs in namespaces: the supervisor, the init process of each namespace, and the termination of processes."""
