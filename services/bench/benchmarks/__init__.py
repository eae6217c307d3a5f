"""One benchmark a file; the contract is services/bench/benchmark.py."""
