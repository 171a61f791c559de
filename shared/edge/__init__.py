"""The HTTP side of a function: hosting, decoding, problem details, events out."""
