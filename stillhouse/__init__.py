"""Stillhouse for Python users: a client of the API, a command line, a local stack."""
