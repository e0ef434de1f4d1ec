"""The master: REST, WebSockets, SQLite, packages. Wired together in app.py."""
