"""The functions of Knudge, one folder each, and the local runner and console beside them."""
