"""What networks are worth: predictions, metrics, cost, the gate for teachers, the report."""
