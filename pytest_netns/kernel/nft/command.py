"""Run nft rulesets that a user wrote with the nft program: libnftables crashes on some input, and would crash pytest too."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess

from pytest_netns.errors import UnavailableError
from pytest_netns.kernel.nft.nftables import Nft, Place, load
from pytest_netns.kernel.nft.unsupported import FEATURE

REMEDY = "sudo apt-get install nftables (Fedora: sudo dnf install nftables)"
ADMIN_PATH = "/usr/local/sbin:/usr/sbin:/sbin"  # not in every user's PATH
# nft names the file it reads: "/proc/self/fd/7:3:15-22: Error: ..."
_POSITION = re.compile(r"^/proc/self/fd/\d+:(\d+):(\d+)-\d+: ", re.MULTILINE)


def apply(place: Place, text: str) -> str:
    """Run a ruleset with the nft program in a namespace, in one transaction; returns its output.

    Raises:
        RulesetError: nft refused it or crashed; nothing was applied.
        UnavailableError: nft is not installed, or the kernel lacks what the ruleset needs.
    """
    load()  # so that everything that needs nft fails with the same error
    program = _find()
    # From a file nft reports the right line; an anonymous one cannot be left behind.
    file = os.memfd_create("ruleset", os.MFD_CLOEXEC)
    try:
        os.write(file, text.encode())
        with place.entered():
            completed = subprocess.run(
                [program, "-f", f"/proc/self/fd/{file}"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                pass_fds=(file,),
                env={**os.environ, "LC_ALL": "C"},
            )
    finally:
        os.close(file)
    output, errors = completed.stdout.decode(errors="replace"), completed.stderr.decode(errors="replace")
    if completed.returncode < 0:
        errors += f"nft crashed with {signal.Signals(-completed.returncode).name}; write the rule in another way"
    if completed.returncode != 0:
        nft = Nft(place)
        try:
            raise nft.explain(text, _POSITION.sub(r"line \1, column \2: ", errors))
        finally:
            nft.close()
    return output


def _find() -> str:
    program = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:{ADMIN_PATH}")
    if program is None:
        raise UnavailableError(FEATURE, "the program nft is not installed", REMEDY)
    return program
