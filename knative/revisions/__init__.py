"""The tool that manages revisions: `knudge revisions`."""
