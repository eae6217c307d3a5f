"""The deployables: one folder a service. `python -m services [name…]` hosts all, or the named ones."""
