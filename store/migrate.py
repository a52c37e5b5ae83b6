"""``python -m store.migrate``: bring the database to this code's schema; exit 3 if it is newer."""

import sys
from pathlib import Path

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, NullPool, create_engine, text

from store.settings import check_settings_or_exit, settings
from store.tables import Base

EXIT_DATABASE_NEWER = 3
_LOCK = 0x5711_0001  # any number, the same for every process that migrates


class DatabaseNewerError(Exception):
    """The database was migrated by a newer Stillhouse than this one."""


def migrate() -> None:
    """Apply missing migrations, one process at a time. Raises DatabaseNewerError."""
    # Without the pool's timeouts: an index over a large table takes minutes.
    migration_engine = create_engine(
        settings().database_url.get_secret_value(), poolclass=NullPool, hide_parameters=True
    )
    with migration_engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        config = alembic_config(connection)
        known_revisions = {
            script.revision for script in ScriptDirectory.from_config(config).walk_revisions()
        }
        current = MigrationContext.configure(connection).get_current_revision()
        if current is not None and current not in known_revisions:
            raise DatabaseNewerError(
                f"the database is at revision {current}, which this Stillhouse does not know: "
                "it was used by a newer version; start that version, or choose another database"
            )
        command.upgrade(config, "head")


def alembic_config(connection: Connection) -> Config:
    """Alembic's configuration for this checkout, on an open connection."""
    config = Config()
    migrations = Path(__file__).parents[1] / "migrations"
    config.set_main_option("script_location", str(migrations).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def schema_differences(connection: Connection) -> list[object]:
    """Differences between the tables in code and the migrated database."""
    return list(compare_metadata(MigrationContext.configure(connection), Base.metadata))


if __name__ == "__main__":
    check_settings_or_exit()
    try:
        migrate()
    except DatabaseNewerError as refusal:
        sys.stderr.write(f"{refusal}\n")
        sys.exit(EXIT_DATABASE_NEWER)
