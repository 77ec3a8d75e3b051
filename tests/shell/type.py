#!/usr/bin/env python3
"""Types into a command through a pseudo-terminal, and waits for what it shows.

    type.py STEPS COMMAND [ARGUMENT …]

STEPS is a JSON list of [keys, text]: the keys are typed, then the text must appear on the screen (below the line that was typed, where the
keys end with a return), and the prompt again; null waits for the command to end.
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
# With the prompt, the command takes keys as they are; before, the terminal makes something of some of them.
PROMPTS = ("lakeseal> ", "      ..> ")
QUIET_SECONDS = 0.2


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

    def answered(keys: str, text: str, before: int) -> bool:
        since, found = plain(shown[before:]), True
        if keys.endswith("\r"):
            _, found, since = since.partition("\n")
        last = plain(shown).rsplit("\n", 1)[-1].lstrip("\r")
        return bool(found) and text in since and last.startswith(PROMPTS)

    for number, (keys, text) in enumerate(steps):
        before, done = len(shown), False
        os.write(terminal, keys.encode())
        until = time.monotonic() + PATIENCE_SECONDS
        while not ended and not done and time.monotonic() < until:
            size = len(shown)
            more(QUIET_SECONDS)
            done = text is not None and len(shown) == size and answered(keys, text, before)
        if not done and (text is not None or not ended):
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
