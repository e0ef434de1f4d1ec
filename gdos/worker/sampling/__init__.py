"""Metrics: one pass a second over the node and all its instances, whatever their number."""
