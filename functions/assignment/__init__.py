"""`assignment`: says who sees which variation, and records who was shown it."""
