"""The use cases of `control`, without stores."""
