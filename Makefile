# make demo    the picture of the README, with real packets
# make test    lint, types, and the whole suite: as root, as an ordinary user, with pytest-xdist, on a second kernel
# make test-kernels   the tests marked "kernels" on a second kernel: User Mode Linux; KERNEL=qemu: a virtual machine
# make test-pythons   the suite on Debian 13 and sid, each in a directory: Python 3.13, 3.14 and 3.15; PYTHONS=trixie: one
# make faults  all crash tests: every signal, every system call (takes about an hour)
#              a single row: make faults ROW=root-EPERM-owner
# make nat-table  hole punching between all kinds of NAT, and each kind according to a STUN server (takes two minutes)
# make bench   benchmarks, compared with C, ip commands and other tools (takes long)
SHELL := /bin/bash
.PHONY: demo test test-kernels test-pythons faults bench setup lint format clean nat-table

demo:
	@.ci/setup
	@.venv/bin/python examples/demo.py

test:
	@.ci/test

test-pythons:
	@.ci/test-pythons $(PYTHONS)

test-kernels:
	@.ci/test-kernels $(or $(KERNEL),uml)

setup:
	@.ci/setup

lint: setup
	.venv/bin/ruff check . && .venv/bin/ruff format --check . && .venv/bin/mypy && .venv/bin/basedpyright

format: setup
	.venv/bin/ruff check --fix . && .venv/bin/ruff format .

faults: setup
	NETNS_FAULTS=full .venv/bin/python -m pytest -q -p no:cacheprovider tests/faults $(if $(ROW),-k "$(ROW)")

nat-table: setup
	NETNS_NAT=full .venv/bin/python -m pytest -p no:cacheprovider -v tests/kernel/test_hole_punching.py

bench:
	@MORE_PACKAGES=mininet .ci/setup
	.venv/bin/python -m tests.benchmarks

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache dist build
