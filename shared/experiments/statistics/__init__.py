"""What experiments measured, one method per file. It needs SciPy, which only `analyse` and the console have: nothing that serves imports it."""
