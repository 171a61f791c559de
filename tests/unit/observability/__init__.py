"""What `shared.observability` promises without a network."""
