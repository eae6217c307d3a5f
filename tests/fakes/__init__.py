"""Stand-ins for what others run: real servers on real ports, answering by script."""
