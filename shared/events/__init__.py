"""The contracts of CloudEvents."""
