"""The parts of a network's description: one file for each kind, with its keys and checks; pure."""
