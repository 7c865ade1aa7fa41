"""nft texts that a user wrote, carried out by the program nft: libnftables crashes on some texts, and would take pytest along."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess

from pytest_netns.errors import UnavailableError
from pytest_netns.kernel.nft.lacking import FEATURE
from pytest_netns.kernel.nft.nftables import Nft, Place, load

REMEDY = "sudo apt-get install nftables (Fedora: sudo dnf install nftables)"
ADMIN_PATH = "/usr/local/sbin:/usr/sbin:/sbin"  # not in every user's PATH
# nft names the file it reads: "/proc/self/fd/7:3:15-22: Error: ..."
_POSITION = re.compile(r"^/proc/self/fd/\d+:(\d+):(\d+)-\d+: ", re.MULTILINE)


def apply(place: Place, text: str) -> str:
    """Have the program nft carry out a text in a namespace, in one transaction; returns its output.

    Raises:
        RulesetError: nft refused it, or died of it; nothing of it was applied.
        UnavailableError: nft is not installed, or the kernel lacks what the text needs.
    """
    load()  # the same refusal, with the same words, for everything that needs nft
    program = _find()
    # A file: only then does nft say the right line. Without a name, so that nothing can be left behind.
    file = os.memfd_create("ruleset", os.MFD_CLOEXEC)
    try:
        os.write(file, text.encode())
        with place.entered():
            done = subprocess.run(
                [program, "-f", f"/proc/self/fd/{file}"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                pass_fds=(file,),
                env={**os.environ, "LC_ALL": "C"},
            )
    finally:
        os.close(file)
    output, errors = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
    if done.returncode < 0:
        errors += f"nft died of it, by {signal.Signals(-done.returncode).name}; write it in another way"
    if done.returncode != 0:
        nft = Nft(place)
        try:
            raise nft.explain(text, _POSITION.sub(r"line \1, column \2: ", errors))
        finally:
            nft.close()
    return output


def _find() -> str:
    found = shutil.which("nft", path=f"{os.environ.get('PATH', '')}:{ADMIN_PATH}")
    if found is None:
        raise UnavailableError(FEATURE, "the program nft is not installed", REMEDY)
    return found
