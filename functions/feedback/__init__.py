"""`feedback`: takes reactions, logged decisions and activations."""
