"""Unit tests of `functions/train`."""
