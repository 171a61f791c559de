"""The algorithms and what they learn. Pure."""
