"""The conformance kit: checks from outside whether a server keeps the promises of Usher's contract.

`python -m conformance https://usher.example --admin-key …` runs it; docs/conformance.md describes
it. Begin reading in table.py, the list of promises. The kit imports nothing of Usher, so it runs
against any server that claims the contract.
"""
