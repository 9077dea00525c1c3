"""Wakelog's tables for SQLAlchemy: insert into `events` from any session, join `log` to it for the order."""

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    FetchedValue,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

metadata = MetaData(schema="wakelog")
"""For reading only: the tables are made by `wakelog db upgrade`, never by `create_all`."""

events = Table(
    "events",
    metadata,
    Column("seq", BigInteger, FetchedValue(), primary_key=True),
    Column("id", Uuid, FetchedValue(), nullable=False),
    Column("type", Text, nullable=False),
    Column("source", Text, FetchedValue(), nullable=False),
    Column("stream", Text),
    Column("version", BigInteger, FetchedValue()),
    Column("payload", JSONB, FetchedValue(), nullable=False),
    Column("metadata", JSONB, FetchedValue(), nullable=False),
    Column("correlation_id", Text),
    Column("causation_id", Uuid),
    Column("idempotency_key", Text),
    Column("schema_version", Integer, FetchedValue(), nullable=False),
    Column("occurred_at", DateTime(timezone=True), FetchedValue(), nullable=False),
    Column("recorded_at", DateTime(timezone=True), FetchedValue(), nullable=False),
    Column("deliver_after", DateTime(timezone=True)),
    info={"append_only": True},
)

log = Table(
    "log",
    metadata,
    Column("position", BigInteger, primary_key=True),
    Column("seq", BigInteger, nullable=False),
    Column("type_id", Integer, nullable=False),
    Column("sequenced_at", DateTime(timezone=True), nullable=False),
)
