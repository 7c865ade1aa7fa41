"""The parts a network is described with: one file for each kind, with its keys and checks; pure."""
