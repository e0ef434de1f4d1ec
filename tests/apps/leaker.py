"""Takes more and more memory, until the kernel ends it."""

import time

print("leaking", flush=True)
kept = []
while True:
    kept.append(bytearray(1 << 20))
    time.sleep(0.001)
