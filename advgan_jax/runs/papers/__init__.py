"""The papers' tables as data: a module for each paper, rows and printed numbers.

`runs.runner` makes them and `runs.measure` measures their entries. The methods
`reproduce` and `szegedy` are the modules of these names.
"""
