"""One file a judge; see services/judge/judge.py for the contract."""
