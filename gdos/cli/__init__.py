"""The command line: typer and rich, one file per noun; heavy imports inside the commands."""
