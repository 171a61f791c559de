"""The pure maths of experiments: who sees what (`assigning`), what it did (`statistics`), and what follows from it."""
