"""The compared programs: ours, the C program and the peers, each ready to run."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

HERE = Path(__file__).parent / "contenders"
PEERS = ("pyroute2", "munet", "pytest-dummynet", "nest")
# Peers create named namespaces and mounts: in separate namespaces, which remove them all.
SANDBOX = (
    "unshare", "--mount", "--net", "--propagation", "private", "sh", "-c",
    'mkdir -p /run/netns && mount -t tmpfs none /run/netns && ip link set lo up && exec "$@"', "-",
)  # fmt: skip

Argv = list[str]


class Programs:
    """Compiles and installs on first use, into a directory that is removed at the end of the block.

    ``before``: another checkout of this project, to compare with.
    """

    def __init__(self, before: Path | None = None) -> None:
        self.before = before.resolve() if before else None
        self._directory = tempfile.TemporaryDirectory(prefix="netns-benchmarks-")
        self._kernel: Path | None = None
        self._python: Path | None = None

    def __enter__(self) -> Programs:
        return self

    def __exit__(self, *exception: object) -> None:
        self._directory.cleanup()

    @property
    def directory(self) -> Path:
        """The directory for programs."""
        return Path(self._directory.name)

    def ours(self, *arguments: object, checkout: Path | None = None) -> Argv:
        """The plugin; ``checkout``: another one's."""
        other = ["env", f"PYTHONPATH={checkout}"] if checkout else []
        return [*other, sys.executable, str(HERE / "ours.py"), *map(str, arguments)]

    def kernel(self, *arguments: object) -> Argv:
        """The C program, with libnftables if that can be compiled."""
        if self._kernel is None:
            self._kernel = self.directory / "kernel"
            compile_ = ["cc", "-O2", "-o", str(self._kernel), str(HERE / "kernel.c")]
            with_nftables = subprocess.run([*compile_, "-DWITH_NFTABLES", "-lnftables"], capture_output=True)
            if with_nftables.returncode:
                subprocess.run(compile_, check=True)
        return [str(self._kernel), *map(str, arguments)]

    def bare(self) -> str:
        """A library with the function ``bare``: the kernel's own time for an empty namespace."""
        library = self.directory / "bare.so"
        subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", str(library), str(HERE / "bare.c")], check=True)
        return str(library)

    def ip_commands(self, picture: str) -> Argv:
        """A shell script of ip and nft."""
        return [*SANDBOX, "sh", str(HERE / "iproute2.sh"), picture]

    def peers(self) -> dict[str, Argv]:
        """The picture "pair" by other tools."""
        if self._python is None:
            where = self.directory / "peers"
            venv.create(where, with_pip=True)
            self._python = where / "bin" / "python"
            for name in PEERS:  # one by one: a failed installation is reported when the program is run
                install = [str(self._python), "-m", "pip", "install", "-q", "--disable-pip-version-check", name]
                subprocess.run(install, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        found = {"pyroute2 IPRoute": "pyroute2", "munet": "munet", "pytest-dummynet": "dummynet", "NeST": "nest"}
        place = [*SANDBOX, "env", f"TMPDIR={self.directory}"]  # munet leaves directories behind
        peers = {name: [*place, str(self._python), str(HERE / f"with_{file}.py")] for name, file in found.items()}
        # Mininet on PyPI lacks its program mnexec; the distribution's package is for the distribution's Python.
        return {**peers, "Mininet": [*place, "/usr/bin/python3", str(HERE / "with_mininet.py")]}


def clean_environment() -> dict[str, str]:
    """The environment without variables that change Python's start."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYTEST"))}
