"""Models: weights of teachers and students."""
