"""Figures, each made by one command: `python -m benchmarks NAME`. Not part of the install."""
