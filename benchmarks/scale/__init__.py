"""Usher at 10 million sockets, computed from measured costs: docs/scale.md.

`python -m benchmarks.scale` prints it. `python -m benchmarks.scale.costs` measures those of the
costs that no other benchmark does. `inputs.json` has all inputs and where each comes from.
"""
