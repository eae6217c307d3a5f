"""One file a filter; the folder is the registry, the contract is ../filter.py."""
