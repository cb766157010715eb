"""Code that the commands in `experiments/` share: flags and error messages.

`command.main` runs a configuration, `command.as_config` turns the flags of a table into
flags of a configuration, and `faults` ends a process with one line.
"""
