"""Migrations of a database that is in use: what stands there gets what is new."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from functions.local.servers import LocalServers
from shared.storage.migrate import migrate
from shared.storage.queries import migrations

PARTITIONS = "select right(inhrelid::regclass::text, 8) from pg_inherits where inhparent = %s::regclass order by 1"


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/Los_Angeles"])
def test_weeks_that_stand_there_get_their_part_of_a_new_table(servers: LocalServers, zone: str) -> None:
    """Every week of history has a partition of the learned order afterwards, whatever time zone the server keeps."""
    name = "weeks_" + zone.replace("/", "_").lower()
    with psycopg.connect(servers.database_url, autocommit=True) as direct:
        direct.execute(f"create database {name}".encode())
        direct.execute(f"alter database {name} set timezone to '{zone}'".encode())
    url = urlunsplit(urlsplit(servers.database_url)._replace(path=f"/{name}"))
    before = [(each, statements) for each, statements in migrations() if each < "0004"]
    assert len(before) == 3
    with psycopg.connect(url, autocommit=True) as direct:
        direct.execute("create table migrations (name text primary key, run_at timestamptz not null default now())")
        for each, statements in before:
            direct.execute(statements)
            direct.execute("insert into migrations (name) values (%s)", [each])
        for moment in ("2026-01-01 12:00Z", "2026-06-15 00:00Z", "2026-06-21 23:59Z"):
            direct.execute("select ensure_partition(%s)", [moment])
    assert "0004_learned_order" in migrate(url)
    with psycopg.connect(url, autocommit=True) as direct:
        weeks = direct.execute(PARTITIONS, ["decisions"]).fetchall()
        assert direct.execute(PARTITIONS, ["learned_order"]).fetchall() == weeks
        assert [week for (week,) in weeks][:2] == ["20251229", "20260615"]
    with psycopg.connect(servers.database_url, autocommit=True) as direct:
        direct.execute(f"drop database {name}".encode())
