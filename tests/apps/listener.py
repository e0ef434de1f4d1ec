"""Listens on a port and writes its PID into `pid` of the folder; with $STUBBORN it ignores SIGTERM."""

import os
import signal
import socket
import sys
import time
from pathlib import Path

if os.environ.get("STUBBORN"):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = socket.socket()
server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
server.bind(("127.0.0.1", int(sys.argv[2])))
server.listen()
part = Path(sys.argv[1], "pid.part")
part.write_text(f"{os.getpid()}\n")
part.replace(Path(sys.argv[1], "pid"))
print("hello from a listener", flush=True)
time.sleep(1000)
