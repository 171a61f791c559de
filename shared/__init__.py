"""What two functions need, by noun."""
