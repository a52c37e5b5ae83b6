"""The committed files about all networks: writers, and the index of tensor shapes."""
