"""The worker: runs on every node, owns its processes, and outlives the master's absence. Wired together in app.py."""
