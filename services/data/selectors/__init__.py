"""One file a selector; the folder is the registry, the contract is ../selector.py."""
