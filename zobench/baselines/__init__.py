"""Reference lines: what is reached without an optimizer. Drawn beside the optimizers, never ranked with them.

One file is one line, and `INFO` says what it is. There are two forms.

For language tasks, `prepare(problem, *, seed=0, <options>)` leaves the problem and its model in the state that is then
evaluated: zero-shot, in-context learning, linear probing. `INFO["kinds"]` are the kinds of tasks that it serves (and
`INFO["forms"]`, where a task has several), without which it serves them all. It may call the model and read the training
rows, never what is evaluated beyond its prompts; what it adds to `problem.facts` stands in the row. Such a run has no steps, so
neither budget nor batch are part of its cell, and its row is shown in every table of its task and model.

For regressions, `solve(problem, x, *, seed=0, <options>)` checks at once that it applies, with
a UsageError that names the tasks it serves, and returns an iterator of flat (D,) float64 iterates from the start x, which ends
when the line has converged. Losses and derivatives are asked of `problem.oracle`, which counts them; algebra on the known data
(A, b, a kernel) is free and shows in the wall-clock. x*, f* and the module's parameters are never read. An iterator may
have `metrics`, a dict of numbers about the run so far (`_low_rank.Projected`).
"""
