"""What `shared.edge` promises without a network."""
