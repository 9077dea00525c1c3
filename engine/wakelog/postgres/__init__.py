"""Everything that is about PostgreSQL itself: connecting, listening, loading the schema, running a private server."""
