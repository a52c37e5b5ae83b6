"""The teacher cache: teacher outputs that are computed once per view and read at every step."""
