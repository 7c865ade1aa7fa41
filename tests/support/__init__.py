"""Common helpers of the tests: traffic, machines with fewer rights, refused system calls; imported as ``tests.support``."""
