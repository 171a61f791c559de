"""What `shared.storage` promises without a network."""
