"""One file a source; the folder is the registry, the contract is ../source.py."""
