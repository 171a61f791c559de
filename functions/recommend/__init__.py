"""`recommend`: decides what to show."""
