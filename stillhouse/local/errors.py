"""Errors of the local stack.

StillhouseError
└── LocalStackError          a sentence for the person at the terminal
    ├── DataDirError         the data folder cannot be used: newer, another user's, or damaged
    ├── DataDirInUseError    another process uses the data folder; the message names it
    ├── PortTakenError       the API cannot listen on the address
    ├── BinariesMissingError the binaries of Postgres or Valkey are not installed
    ├── ProcessFailedError   a process could not be started or kept running
    └── StartCancelledError  a stop was requested while the stack was starting
"""

from __future__ import annotations

from stillhouse.errors import StillhouseError


class LocalStackError(StillhouseError):
    """The message says what is wrong and what would be right."""


class DataDirError(LocalStackError):
    """The data folder cannot be used."""


class DataDirInUseError(LocalStackError):
    """Another process uses the data folder."""


class PortTakenError(LocalStackError):
    """The API cannot listen on the requested address."""


class BinariesMissingError(LocalStackError):
    """The binaries of a server are not installed."""


class ProcessFailedError(LocalStackError):
    """A process could not be started or kept running."""


class StartCancelledError(LocalStackError):
    """A stop was requested while the stack was starting."""
