"""How a sidecar drives each kind of AI program; one adapter per protocol."""
