"""A small web service: / greets, /health is its readiness probe; SIGTERM ends it cleanly."""

import argparse
import os
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class Hello(BaseHTTPRequestHandler):
    def do_GET(self):
        text = "ok\n" if self.path == "/health" else greeting()
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format, *args):
        with open("access.log", "a") as log:
            log.write(format % args + "\n")


def greeting():
    name, version = os.environ.get("GDOS_INSTANCE_NAME", "hello"), os.environ.get("GDOS_VERSION", "?")
    return f"Hello from {name}, version {version}, PID {os.getpid()}\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    port = parser.parse_args().port
    starts = Path("state/starts")
    starts.parent.mkdir(exist_ok=True)
    count = int(starts.read_text()) + 1 if starts.exists() else 1
    starts.write_text(str(count))
    server = ThreadingHTTPServer(("127.0.0.1", port), Hello)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listening on port {port}, start number {count}", flush=True)
    server.serve_forever()
    print("stopped cleanly", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
