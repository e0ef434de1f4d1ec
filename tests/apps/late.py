"""Writes `up NAME` into the file of $TRACE when it is ready, after $LATE seconds, and `down NAME` at its end."""

import os
import signal
import sys
import time


def say(word: str) -> None:
    with open(os.environ["TRACE"], "a") as file:
        file.write(f"{word} {os.environ['GDOS_INSTANCE_NAME']}\n")


def end(*_: object) -> None:
    say("down")
    sys.exit(0)


signal.signal(signal.SIGTERM, end)
say("begin")
time.sleep(float(os.environ.get("LATE", "0.1")))
if os.environ.get("BROKEN"):
    sys.exit(int(os.environ["BROKEN"]))
say("up")
print("ready now", flush=True)
while True:
    time.sleep(1000)
