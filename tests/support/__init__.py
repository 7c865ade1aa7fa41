"""What tests share: traffic, machines with fewer rights, system calls that are refused; imported as ``tests.support``."""
