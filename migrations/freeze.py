"""Write today's tables into the first revision; only until it is released. See README.md."""

from pathlib import Path

from wakelog.postgres.sources import tables_sql

if __name__ == "__main__":
    (Path(__file__).parent / "versions" / "0001_first.sql").write_text(tables_sql())
