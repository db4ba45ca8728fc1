"""The benchmark: what every part of minigrad costs, against the machine's limits and torch.

A *case* is one line of the benchmark: something to compute, with one or more *contenders* that
compute it. The contenders of a case take turns in one process with equal numbers of threads; their
results are checked in the same run; the median of their times is the headline, with the least time
and the middle half of all times beside it.

timing.py and statistics.py measure; case.py says what a case is and checks results;
kernel_cases.py, op_cases.py, model_cases.py and engine_cases.py are the suites; against.py and
mirror.py are torch's side; limits.py measures the roofs; runner.py runs it all, report.py and
roofline.py show it, and compare.py holds it against an earlier run.
"""
