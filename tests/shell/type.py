#!/usr/bin/env python3
"""Types into a command through a pseudo-terminal, and waits for what it shows.

    type.py STEPS COMMAND [ARGUMENT …]

STEPS is a JSON list of [keys, text]: the keys are typed, then the text must appear on the screen; null waits for the command to end.
Prints all that was shown. Exit codes: the command's own; 70 when something did not appear in time.
"""

import json
import os
import pathlib
import pty
import re
import select
import sys
import time

PATIENCE_SECONDS = 60


def plain(shown: bytes) -> str:
    """What is shown, without the terminal's control sequences."""
    text = shown.decode(errors="replace")
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\x1b[=>]", "", text)


def main() -> int:
    steps = json.loads(pathlib.Path(sys.argv[1]).read_text())
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.argv[2], sys.argv[2:])
    shown, ended = b"", False

    def more(seconds: float) -> None:
        nonlocal shown, ended
        if not select.select([terminal], [], [], seconds)[0]:
            return
        try:
            read = os.read(terminal, 65536)
        except OSError:
            read = b""
        ended |= not read
        shown += read

    for number, (keys, text) in enumerate(steps):
        before = len(shown)
        os.write(terminal, keys.encode())
        until = time.monotonic() + PATIENCE_SECONDS
        while not ended and time.monotonic() < until:
            more(0.05)
            if text is not None and text in plain(shown[before:]):
                break
        if text is None and ended:
            break
        # What is echoed and shown after the text belongs to this step.
        for _ in range(4):
            if not ended:
                more(0.05)
        if text is None or text not in plain(shown[before:]):
            os.kill(child, 9)
            os.waitpid(child, 0)
            print(plain(shown))
            print(f"step {number}: {text!r} did not appear after {keys!r}", file=sys.stderr)
            return 70
    _, status = os.waitpid(child, 0)
    print(plain(shown))
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
