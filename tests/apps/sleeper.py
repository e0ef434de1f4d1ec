"""Says hello, then sleeps until a signal ends it."""

import os
import signal

print("hello from", os.environ.get("GDOS_INSTANCE_NAME"), "version", os.environ.get("GDOS_VERSION"), flush=True)
while True:
    signal.pause()
