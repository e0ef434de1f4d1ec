"""Writes a line and ends: with the code in the file `code` beside its data, or in $EXIT_CODE."""

import os
import sys
import time

print("about to end", flush=True)
time.sleep(float(os.environ.get("EXIT_AFTER", "0")))
sys.exit(int(os.environ.get("EXIT_CODE", "3")))
