"""One attack a file; the contract is services/bench/attack.py."""
