"""One instance: what is wanted of it, what is, and the steps in between."""
