"""Usher's figures beside a bare Tornado server: same machine, same work, one run.

``python -m benchmarks`` measures, ``docs/performance.md`` explains. One module per measurement
(``measure_*.py``); what they share is ``harness.py``.
"""
