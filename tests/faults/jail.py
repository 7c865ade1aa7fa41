"""PID 1 of a trial: starts a program, reports its exit, reaps, and stays until its standard input ends."""

import os
import select
import signal
import sys

receive, send = os.pipe()
os.set_blocking(send, False)
signal.set_wakeup_fd(send)
signal.signal(signal.SIGCHLD, lambda *_: None)
victim = os.posix_spawnp(
    sys.argv[1],
    sys.argv[1:],
    os.environ,
    file_actions=[(os.POSIX_SPAWN_DUP2, 2, 1), (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)],
    setpgroup=0,
    setsigdef=[signal.SIGPIPE, signal.SIGINT],
)
while True:
    ready, _, _ = select.select([0, receive], [], [])
    if 0 in ready:
        os._exit(0)  # the kernel kills the remaining processes
    os.read(receive, 4096)
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            break
        if not pid:
            break
        if pid == victim:
            os.write(1, b"%d\n" % os.waitstatus_to_exitcode(status))
