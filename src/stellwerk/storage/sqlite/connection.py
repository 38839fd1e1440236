"""Opening database files the one way we use them."""

import sqlite3
from pathlib import Path
from typing import Final

_STATEMENTS_KEPT: Final = 256
_BUSY_MS: Final = 5_000


def connect(file: Path, *, writable: bool, synchronous: str = "FULL", cache_kib: int = 8_000) -> sqlite3.Connection:
    """A connection in autocommit mode: transactions are spelled out where they are wanted. ``cache_kib``: how much of
    the file a writer keeps in its own memory; what does not fit comes from the system's."""
    connection = sqlite3.connect(
        file, isolation_level=None, check_same_thread=False, cached_statements=_STATEMENTS_KEPT, timeout=_BUSY_MS / 1000
    )
    connection.execute("PRAGMA foreign_keys=ON")
    connection.execute("PRAGMA temp_store=MEMORY")
    if writable:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute(f"PRAGMA synchronous={synchronous}")
        connection.execute("PRAGMA journal_size_limit=67108864")
        connection.execute(f"PRAGMA cache_size=-{cache_kib}")
    else:
        connection.execute("PRAGMA query_only=ON")
    return connection
