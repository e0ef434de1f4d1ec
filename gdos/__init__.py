"""GDOS: a light, distributed ops platform in one file."""

__version__ = "0.1.0"
