"""`control`: the operators' door."""
