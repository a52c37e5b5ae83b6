"""The local Postgres."""
