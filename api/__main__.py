"""``python -m api --host HOST --port PORT``: serve the API and the dashboard."""

import argparse
from types import FrameType

import uvicorn

from api.app import create_app
from store import logs
from store.settings import check_settings_or_exit

GRACE_S = 5
"""Seconds for running requests on shutdown."""


class Server(uvicorn.Server):
    """A server that closes event streams on shutdown, which would wait for them otherwise."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """On SIGTERM or SIGINT, close the streams, then let uvicorn finish the other requests."""
        app = self.config.app
        # uvicorn also allows an import string, but main() passes the application.
        broadcaster = app.state.broadcaster  # type: ignore[union-attr]
        broadcaster.close()
        super().handle_exit(sig, frame)


def main() -> None:
    """Serve until a signal."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    check_settings_or_exit()
    logs.configure()
    config = uvicorn.Config(
        create_app(),
        host=args.host,
        port=args.port,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_graceful_shutdown=GRACE_S,
        timeout_keep_alive=30,
    )
    Server(config).run()


if __name__ == "__main__":
    main()
