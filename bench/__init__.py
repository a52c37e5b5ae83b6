"""The measurements behind what the README says, each a command."""
