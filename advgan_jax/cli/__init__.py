"""What the commands in `experiments/` share: flags, errors and endings.

`command.main` runs a configuration, `command.as_config` turns the flags of a table into
a configuration, and `faults` ends a process with one line.
"""
