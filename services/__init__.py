"""The rules of Usher. Nothing here speaks HTTP.

The packages are its wings, and the docstring of each says where to begin and which others it may
import; docs/architecture.md has the picture. The files beside them are of two kinds. Every wing may
import the ground: `errors`, `metrics`, `secret`, `opaque`, `background`, `claims`, `grants`. The
frame joins the wings to one server: `container`, `infrastructure`, `lifecycle`, `health`, `upkeep`.
"""
