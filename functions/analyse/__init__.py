"""The function `analyse`: what experiments show, and what follows from it."""
