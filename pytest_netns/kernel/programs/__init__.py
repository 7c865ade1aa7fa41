"""Programs in namespaces: the supervisor above them, their inits, and what ends them."""
