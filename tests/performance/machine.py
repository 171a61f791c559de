"""What the bench ran on, so that its figures can be read elsewhere."""

from __future__ import annotations

import os
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
import redis

PACKAGES = (
    "functions-framework",
    "gunicorn",
    "httptools",
    "msgspec",
    "numpy",
    "psycopg",
    "redis",
    "uvicorn",
    "uvloop",
)


def describe(store: redis.Redis, database: psycopg.Connection[Any]) -> dict[str, Any]:
    """Return processor, cores, load before the start, and the versions that matter."""
    row = database.execute("SHOW server_version").fetchone()
    info: Any = store.info("server")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load_1min": round(os.getloadavg()[0], 2),
        "system": platform.platform(),
        "python": platform.python_version(),
        "redis": info["redis_version"],
        "postgresql": row[0] if row else None,
        "packages": {name: version(name) for name in PACKAGES},
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()
