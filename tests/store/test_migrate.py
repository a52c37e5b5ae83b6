"""The migrated database is what the tables say; a newer one is refused."""

from sqlalchemy import text

from store.database import engine
from store.migrate import migrate, schema_differences


def test_drift_would_be_seen(environment: dict[str, str]) -> None:
    with engine().connect() as connection:
        connection.execute(text("ALTER TABLE jobs DROP COLUMN eta_s"))
        assert len(schema_differences(connection)) == 1
        connection.rollback()


def test_migrating_again_changes_nothing(environment: dict[str, str]) -> None:
    migrate()
    with engine().connect() as connection:
        assert schema_differences(connection) == []
