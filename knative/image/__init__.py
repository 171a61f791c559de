"""The container image: what its root file system holds, how it is built, what it weighs."""
