"""The command `advgan-jax`, which the scripts in `experiments/` start, too.

`main` chooses the sub-command of `commands`. For those that read a configuration,
`configured` reads `arguments` and the flags of `options`; then `command` or `challenge`
computes. `export` and `report` need no configuration. `errors` and `faults` end a
process with one line.
"""
