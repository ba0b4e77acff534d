"""Pictures of a certificate: heat maps as SVG, an HTML page, a figure of matplotlib.

`python -m verify.pictures docs/pictures` writes those of the handbook.
"""
