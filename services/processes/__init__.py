"""Several server processes on one port: a supervisor, and its worker processes.

Begin with `supervisor.py`, which starts the workers, again if need be; `place.py` is its view of
one of them. `worker.py` is the end of a worker, `link.py` what the two say to each other,
`listeners.py` how they share a port, and `exposition.py` how the metrics of all are put together.
docs/adr/0008-processes.md says why.

May import: no other wing.
"""
