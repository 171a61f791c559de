"""The console: the command `knudge`, which talks to the functions over HTTP like any other caller."""
