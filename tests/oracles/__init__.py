"""Numbers of other people's libraries, which tests compare ours with: run by `make oracles` in an environment of its own.

Nothing here is imported by a test, and nothing here imports Knudge: a fixture is what the reference computed from inputs that
stand in the fixture beside it.
"""
