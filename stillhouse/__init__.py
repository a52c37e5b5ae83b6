"""Stillhouse for Python users: a client of the API, a command line, an embedded local stack."""
