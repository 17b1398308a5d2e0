"""The last step before a program runs: tie its life to the process that supervises it, then become it.

    python -I -S guard.py PARENT_PID COMMAND [ARGUMENT …]

On Linux the kernel is told to kill this process when its parent dies (prctl(2), PR_SET_PDEATHSIG); the setting survives
execve(2), so a runtime that is killed leaves no orphan, whatever the program is. Why a small program and not a hook
between fork and exec (`preexec_fn`): such a hook runs Python in a forked copy of a process that may have threads, can
dead-lock there, and rules out the faster ways to spawn. This costs about 15 ms per start, imports nothing of ours, and
works for any executable but one with set-user-id rights, for which the kernel drops the setting.

Exit status: that of the program; 127 when there is no such program, 126 when it cannot be run, as a shell has it.
"""

from __future__ import annotations

import errno
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def die_with(parent: int) -> bool:
    """Have the kernel kill this process when `parent`, its parent now, dies. False when that has died already."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    return os.getppid() == parent


def main(arguments: list[str]) -> int:
    """Become COMMAND; an exit status only when that fails."""
    parent, *command = arguments
    if not die_with(int(parent)):
        return 1
    try:
        os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
    except OSError as error:
        missing = error.errno == errno.ENOENT
        reason = _interpreter(command[0]) if missing else os.strerror(error.errno or 0)
        sys.stderr.write(f"greentic: {command[0]} cannot be run: {reason}\n")
        return 127 if missing else 126


def _interpreter(program: str) -> str:
    """Why a program is not found: itself, or the interpreter that its first line names."""
    try:
        with open(program, "rb") as file:  # noqa: PTH123 - pathlib would double the start-up time
            first = file.readline(256)
    except OSError:
        return "there is no such program"
    if first.startswith(b"#!"):
        return f"its interpreter '{first[2:].decode(errors='replace').strip()}' does not exist"
    return "its loader does not exist on this machine"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
