"""The bench service: attacks, benchmarks, scorecards, the gate."""
