"""Reference lines: what a method that knows the problem reaches. Drawn beside the optimizers, never ranked with them.

One file is one line. `INFO` says what it is; `solve(problem, x, *, seed=0, <options>)` checks at once that it applies, with
a UsageError that names the tasks it serves, and returns an iterator of flat (D,) float64 iterates from the start x, which ends
when the line has converged. Losses and derivatives are asked of `problem.oracle`, which counts them; algebra on the known data
(A, b, a kernel) is free and shows in the wall-clock. x*, f* and the module's parameters are never read. An iterator may
have `metrics`, a dict of numbers about the run so far (`_low_rank.Projected`).
"""
