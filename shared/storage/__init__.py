"""Redis and PostgreSQL."""
