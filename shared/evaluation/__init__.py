"""What a policy would have earned, estimated from a log: pure, one estimator per file."""
