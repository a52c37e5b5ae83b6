"""``python -m store.access.login_link --base-url URL``.

Print an address that opens the dashboard once.
"""

import argparse
import sys

from sqlalchemy import select

from store.access import credentials
from store.database import transaction
from store.tables import ApiKey


def login_link(base_url: str) -> str:
    """An address for one login within the hour, with the first admin key."""
    with transaction() as session:
        admin = session.scalars(
            select(ApiKey.id)
            .where(ApiKey.revoked_at.is_(None), ApiKey.scopes.contains(["admin"]))
            .order_by(ApiKey.created_at)
            .limit(1)
        ).one()
        return f"{base_url}/login?code={credentials.create_login_code(session, admin)}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base-url", required=True)
    sys.stdout.write(f"{login_link(parser.parse_args().base_url)}\n")
