"""How training is arranged: each scheme yields phases to the one training loop."""
