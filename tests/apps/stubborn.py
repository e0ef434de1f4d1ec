"""Ignores every polite signal."""

import signal
import time

for name in ("SIGTERM", "SIGINT", "SIGHUP"):
    signal.signal(getattr(signal, name), signal.SIG_IGN)
print("hello", flush=True)
while True:
    time.sleep(3600)
