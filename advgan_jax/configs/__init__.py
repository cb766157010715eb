"""Configurations: one module for each method, with `get_config(variant)`.

`--config=NAME:VARIANT` chooses one, and a flag such as `--config.epsilon=0.2` overrides
a value. The files in `configs/` re-export them for `--config=configs/NAME.py:VARIANT`.
A module imports the settings that it shares with another one. Its docstring has the
command, the run time and the results.
"""
