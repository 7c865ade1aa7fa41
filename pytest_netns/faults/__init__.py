"""What a test does to a network on purpose, to see what its software makes of it."""
