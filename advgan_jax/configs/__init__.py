"""Configurations: one module for each method, with `get_config(variant)`.

The files in `configs/` export them for `--config=configs/NAME.py:VARIANT`. Every value
can be overridden, `--config.epsilon=0.2`. A module imports the settings that it shares
with another one, and its docstring has the command, the run time and expected numbers.
"""
