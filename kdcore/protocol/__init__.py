"""What worker and engine say to each other: requests and events."""
