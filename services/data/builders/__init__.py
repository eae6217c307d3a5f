"""One file a builder; the folder is the registry, the contract is ../builder.py."""
