"""`learn`: turns what happened into posteriors and snapshots."""
