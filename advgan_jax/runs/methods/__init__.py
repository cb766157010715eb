"""One module for each kind of run; `runs.run.Method` specifies its two functions.

`run` is the run, and `logits_fn` its target model in inference mode. Functions reuse
results in the run's folder. Functions that train raise `Stopped` and `ValueError` as
`trainers.checkpointed` does.
"""
