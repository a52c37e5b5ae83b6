"""Types of everything that a client may request. They need no torch, so all rooms use them."""
