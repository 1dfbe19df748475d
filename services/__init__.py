"""The rules of Usher. Nothing here speaks HTTP.

The packages are wings. The docstring of each says where to begin and which others it may import;
docs/architecture.md has a picture. The files beside them are of two kinds. Every wing may import
the shared ones: `errors`, `metrics`, `secret`, `opaque`, `background`, `claims`. The frame joins
the wings to one server: `container`, `infrastructure`, `lifecycle`, `health`, `upkeep`.
"""
