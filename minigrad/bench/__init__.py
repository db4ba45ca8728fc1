"""The benchmark: what every part of minigrad costs, against the machine's limits and torch.

A *case* is one line of the benchmark: something to compute, with one or more *contenders* that
compute it. The contenders of a case take turns in one process with equal numbers of threads; their
results are checked in the same run; the median of their times is the headline, with the least time
and the middle half of all times beside it.

case.py says what a case is and checks results. The cases of each suite are made in kernel_cases.py
(with conv_cases.py and norm_cases.py), op_cases.py (with update_cases.py), model_cases.py and
engine_cases.py, of the shapes in shapes.py and the arrays of inputs.py; against.py and mirror.py
are torch's side; suites.py has all cases, and finds the one that is asked for.

runner.py runs them in the time that budget.py gives to each. timing.py, statistics.py and memory.py
measure, alone.py in a process of its own; limits.py measures the roofs, machine.py says what they
are the roofs of, profile.py where a network's time goes. report.py (with text.py) and roofline.py
show it, targets.py judges it, reasons.py says what keeps it from a target, and compare.py holds it
against an earlier run.
"""
