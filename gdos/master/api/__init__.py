"""The REST API: thin. Parse, call one use case, answer."""
