"""The servers that Usher is measured beside, each as its own documentation would have it.

They run in an environment of their own (requirements-peers.txt) and import nothing of Usher.
"""
