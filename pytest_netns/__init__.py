"""Every test gets a network of its own."""

__version__ = "0.1.0"
