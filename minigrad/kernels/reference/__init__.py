"""The naive twin of every kernel: same name, same signature, NumPy written to be read.

Twins accept complex arrays and are analytic in them wherever the kernel is differentiable: they
compare real parts only. That is what lets the complex step differentiate through them.
"""
