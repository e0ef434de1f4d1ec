"""A tree that tries to get away: a child, a grandchild in a session of its own, and a daemonised one."""

import os
import signal
import subprocess
import sys


def daemon():
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", "7777"])
        os._exit(0)
    os.wait()


subprocess.Popen(["sleep", "7777"])
subprocess.Popen([sys.executable, "-c", "import os; os.setsid(); os.execvp('sleep', ['sleep', '7777'])"])
daemon()
print("forked", flush=True)
signal.signal(signal.SIGTERM, signal.SIG_DFL)
while True:
    signal.pause()
