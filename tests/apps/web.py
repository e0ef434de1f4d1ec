"""An HTTP service on $PORT that becomes ready after $LATE seconds, or never when $LATE is 'never'."""

import os
import signal
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

BEGAN = time.monotonic()
LATE = os.environ.get("LATE", "0")


class Web(BaseHTTPRequestHandler):
    def do_GET(self):
        ready = LATE != "never" and time.monotonic() - BEGAN >= float(LATE)
        body = f"{os.environ['GDOS_VERSION']} {os.getpid()}".encode()
        self.send_response(200 if ready else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        return


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("listening", flush=True)
HTTPServer(("127.0.0.1", int(os.environ["PORT"])), Web).serve_forever()
