"""One module for each kind of run; `runs.run.Method` says what a method has.

In all of them `run` is the run that needs something, and `logits_fn` is its target
model in inference mode. What the run's folder has already is not trained or measured
again.
Functions that train raise `Stopped` if a signal came, after they saved the state, and
`ValueError` if checkpoints in the folder depend on other settings.
"""
