"""What can go wrong with the local stack.

LocalError           a sentence for the person at the terminal
├── FolderError      the data folder cannot be used (newer, someone else's, damaged)
├── FolderInUseError      another process owns the data folder; the message names it
├── PortTakenError        the API's address is not free
├── PartsMissingError     the binaries of Postgres or Valkey are not installed
├── PartFailedError       a part could not be started or kept alive
└── CancelledError        a stop was asked for while something was being started
"""

from __future__ import annotations


class LocalError(Exception):
    """A sentence that says what was wrong and what would be right."""


class DataDirError(LocalError):
    """The data folder cannot be used."""


class DataDirInUseError(LocalError):
    """Another process owns the data folder."""


class PortTakenError(LocalError):
    """The address asked for cannot be listened on."""


class BinariesMissingError(LocalError):
    """A server's binaries are not installed here."""


class ProcessFailedError(LocalError):
    """A part could not be started or kept alive."""


class StartCancelledError(LocalError):
    """A stop was asked for while something was being started."""
