"""What is distilled: one file per method, a pure loss function and a class that names its needs."""
