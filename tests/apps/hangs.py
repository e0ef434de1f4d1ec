"""Answers on its port until the file `hang` appears in its folder; then it takes connections and says nothing."""

import http.server
import os
import sys
import time
from pathlib import Path


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        while Path(os.environ["GDOS_DATA_DIR"], "hang").exists():
            time.sleep(0.05)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


print("serving", flush=True)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
