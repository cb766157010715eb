"""One module for each kind of run; `runs.run.Method` specifies its two functions.

`run` is the run, and `logits_fn` its target model in inference mode. Functions reuse
what the run's folder contains. Functions that train raise what `runs.training` raises.
"""
