"""The node agent: containers on our own machines, with the truth about them."""
