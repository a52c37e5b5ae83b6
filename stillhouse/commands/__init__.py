"""The commands of `stillhouse`; cli.py lists them."""
