"""Package bytes, stored by their SHA-256."""
