"""How a service comes to have processes. One face: base.Driver."""
