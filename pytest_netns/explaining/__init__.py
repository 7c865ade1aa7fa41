"""What a test's network looked like and what went over it: collected (observing, capture) and shown (report, digest)."""
