"""Export: files for the user, each compared with the network before it is published."""
