"""The benchmark: what every part of minigrad costs, against the machine's limits and torch.

A *case* is one line of the benchmark: something to compute, with one or more *contenders* that
compute it. The contenders of a case take turns in one process with equal numbers of threads; their
results are checked in the same run; the median of their times is the headline, with the least time
and the middle half of all times beside it.

timing.py, statistics.py and memory.py measure; case.py says what a case is and checks results;
kernel_cases.py (with conv_cases.py and norm_cases.py), op_cases.py (with update_cases.py),
model_cases.py and engine_cases.py are the suites; against.py and mirror.py are torch's side;
limits.py measures the roofs, profile.py says where a network's time goes; runner.py runs it all in
the time that budget.py gives to each case, report.py and roofline.py show it, targets.py judges it,
and compare.py holds it against an earlier run.
"""
