"""Tables in an archive: their rows, the meaning of their columns, and tables that are not read."""
