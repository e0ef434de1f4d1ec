"""Pure values and decisions: no I/O, no thread, no clock; time comes in as an argument."""
