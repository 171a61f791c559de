"""Brings the database up to date: `python -m shared.storage.migrate` or `knudge migrate`.

Each migration runs once, in a transaction of its own, under a lock, so that any number of processes may start it. A
migration only adds, so that the code before it and the code after it can run side by side.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime, timedelta

import psycopg

from shared.errors import Misconfigured
from shared.settings import Settings
from shared.storage.queries import migrations


def migrate(database_url: str) -> list[str]:
    """Run what has not run yet; return the names of those migrations."""
    done: list[str] = []
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute("select pg_advisory_lock(hashtext('knudge migrations'))")
        connection.execute(
            "create table if not exists migrations (name text primary key, run_at timestamptz not null default now())"
        )
        known = {name for (name,) in connection.execute("select name from migrations")}
        for name, statements in migrations():
            if name not in known:
                with connection.transaction():
                    connection.execute(statements)
                    connection.execute("insert into migrations (name) values (%s)", [name])
                done.append(name)
        now = datetime.now(UTC)
        for weeks in (0, 1, 2):
            connection.execute("select ensure_partition(%s)", [now + timedelta(weeks=weeks)])
    return done


def main() -> int:
    """Migrate the database that the environment names."""
    try:
        settings = Settings.load(os.environ, ["database_url"])
        done = migrate(settings.database_url)
    except (Misconfigured, psycopg.Error) as error:
        print(f"migrate: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print("migrated: " + (", ".join(done) or "nothing to do"))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
