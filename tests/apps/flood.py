"""Writes numbered lines as fast as it can, then sleeps."""

import os
import signal

for number in range(int(os.environ.get("LINES", "20000"))):
    print(f"line {number:08d}")
print("flood is over", flush=True)
while True:
    signal.pause()
