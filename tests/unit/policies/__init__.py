"""The maths: one suite of invariants over every kind, and what each kind promises beyond it."""
