"""gradcheck and check_grad: are these gradients right?"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from minigrad.check.blame import blame, join_verdicts
from minigrad.check.directional import Trial, backward_verdict, branch_verdict
from minigrad.check.entries import entry_verdicts
from minigrad.check.laws import law_verdicts
from minigrad.check.locate import located
from minigrad.check.problem import PlainProblem, Problem, inner, problem_of
from minigrad.check.report import RIGHT, WRONG, GradcheckError, Report, Verdict
from minigrad.check.shadow import float32_verdict
from minigrad.core.errors import ArgumentError

__all__ = ["check_grad", "check_problem", "complex_verdict", "gradcheck"]

MODES = ("directional", "entries", "whole+blame")


def gradcheck(
    target: Callable[..., Any],
    *inputs: Any,
    mode: str = "directional",
    hold_branches: bool = True,
    rows: bool = False,
    laws: bool = False,
    complex_step: bool = False,
    seed: int = 0,
    raise_exception: bool = True,
) -> Report:
    """Check the gradients of a function of tensors, an operation or a module.

    With a random cotangent w and a random direction u, ``<J^T w, u>`` by backward is compared with
    ``<w, J u>`` by differences that bring a bound on their own error along: there is no tolerance
    to choose. Where they disagree twice, the operation, the input and the entry are looked for.

    Parameters
    ----------
    target : callable, Module or Function class
        From tensors to a tensor or a tuple of tensors. A module is copied; its parameters are
        checked along with its inputs. An operation's class stands for its ``apply``.
    *inputs : ndarray, Tensor, or anything else
        Arrays and tensors of floats, also inside lists, are differentiated, as float64.
    mode : str
        ``"directional"``: one direction through all inputs. ``"entries"``: every entry by itself.
        ``"whole+blame"``: one direction, and every operation on the inputs it met on the way.
    hold_branches : bool
        Hold the branches at kinks (relu, max, clip, ...) as they are at ``inputs``. Without it
        differences cross kinks, and ``Report.crossed`` names the operations where they did.
    rows : bool
        For ``"entries"``: row n of the outputs depends on row n of each input only. Then all rows
        are moved at once, and many points are stacked into one forward pass.
    laws : bool
        Also check what every backward has to obey: linear, re-entrant, nothing mutated, ...
    complex_step : bool
        Also compare with the complex step through the naive kernels, exact to rounding. All
        operations must be complex-safe, as those of minigrad are.
    seed : int
        Of the cotangent and the direction.
    raise_exception : bool
        Raise unless everything is right.

    Returns
    -------
    Report
        With a verdict on backward, on the branches, and, for float32 inputs, on how far the
        float32 gradients are from the float64 ones.

    Raises
    ------
    GradcheckError
        If a gradient is wrong, or nothing could be shown; the report is its ``report``.
    ArgumentError
        For a target that cannot be called, or nothing to differentiate.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> x, w = np.linspace(-1, 1, 6).reshape(2, 3), np.ones((3, 4))
    >>> mg.gradcheck(lambda x, w: mg.relu(mg.matmul(x, w)), x, w).ok
    True
    """
    if mode not in MODES:
        raise ArgumentError(
            f"gradcheck: mode is 'directional', 'entries' or 'whole+blame', got {mode!r}. Leave "
            f"it out for one direction through all inputs."
        )
    problem = problem_of(target, inputs, hold_branches)
    report = check_problem(problem, mode, rows, laws, complex_step, seed)
    return _delivered(report, raise_exception)


def check_grad(
    f: Callable[[np.ndarray], Any],
    grad_f: Callable[[np.ndarray], Any],
    x: Any,
    *,
    seed: int = 0,
    raise_exception: bool = True,
) -> Report:
    """Check a hand-written gradient of a plain NumPy function, which need not know of minigrad.

    The arguments are in the order of :func:`scipy.optimize.check_grad`.

    Parameters
    ----------
    f : callable
        From an array to a number.
    grad_f : callable
        From an array to an array of its shape.
    x : array_like
        Where to check; taken as float64.
    seed : int
        Of the direction.
    raise_exception : bool
        Raise unless the gradient is right.

    Returns
    -------
    Report

    Raises
    ------
    GradcheckError
        If the gradient is wrong, or nothing could be shown.
    ShapeError
        If the gradient has not the shape of x.

    Examples
    --------
    >>> import numpy as np, minigrad as mg
    >>> mg.check_grad(lambda x: np.sum(x**3), lambda x: 3 * x**2, [1.0, 2.0]).ok
    True
    >>> report = mg.check_grad(
    ...     lambda x: np.sum(x**3), lambda x: -3 * x**2, [1.0, 2.0], raise_exception=False
    ... )
    >>> report.worst.guess
    'the sign is wrong'
    """
    problem = PlainProblem(f, grad_f, np.array(x, np.float64))
    trial = Trial(problem, np.random.default_rng(seed))
    report = Report(problem.name, [_looked_into(trial, backward_verdict(trial))])
    report.forwards = problem.forwards
    return _delivered(report, raise_exception)


def _delivered(report: Report, raise_exception: bool) -> Report:
    if raise_exception and not report.ok:
        raise GradcheckError(report)
    return report


def _looked_into(trial: Trial, verdict: Verdict) -> Verdict:
    """A wrong verdict with the entry and the guess."""
    return located(trial, verdict) if verdict.kind == WRONG and verdict.index is None else verdict


def check_problem(
    problem: Problem,
    mode: str = "directional",
    rows: bool = False,
    laws: bool = False,
    complex_step: bool = False,
    seed: int = 0,
) -> Report:
    """Every verdict on a problem that the mode asks for."""
    rng = np.random.default_rng(seed)
    trial = Trial(problem, rng)
    report = Report(problem.name)
    verdicts = entry_verdicts(trial, rows) if mode == "entries" else [backward_verdict(trial)]
    if mode == "whole+blame":
        verdicts = [dataclasses.replace(v, check="whole") for v in verdicts]
    wrong = any(v.kind == WRONG for v in verdicts)
    if mode == "whole+blame" or wrong:
        report.verdicts += _causes(problem, trial, wrong, mode == "whole+blame")
    blamed = report.wrong
    report.verdicts += [v if blamed else _looked_into(trial, v) for v in verdicts]
    if problem.kinks and problem.frozen:
        report.verdicts.append(branch_verdict(problem))
    if complex_step:
        report.verdicts.append(complex_verdict(trial))
    if problem.single:
        report.verdicts.append(float32_verdict(trial))
    if laws:
        report.verdicts += law_verdicts(trial)
    if not problem.frozen:
        report.crossed = problem.crossed(trial.direction())
    report.forwards = problem.forwards
    return report


def _causes(problem: Problem, trial: Trial, wrong: bool, everything: bool) -> list[Verdict]:
    """The verdicts on single operations; without ``everything`` only on wrong ones."""
    verdicts = blame(problem, trial.rng)
    if wrong and not any(v.kind == WRONG for v in verdicts):
        verdicts += join_verdicts(problem, trial.cotangents)
    return verdicts if everything else [v for v in verdicts if v.kind == WRONG]


def complex_verdict(trial: Trial) -> Verdict:
    """Backward against the complex step through the naive kernels."""
    direction = trial.direction()
    analytic = inner(trial.gradients, direction)
    numeric = trial.problem.complex_slope(direction, trial.cotangents)
    terms = [np.abs(g * u).sum() for g, u in zip(trial.gradients, direction, strict=True)]
    error, bound = abs(analytic - numeric), 1e-10 * max(float(sum(terms)), abs(numeric))
    kind = RIGHT if error <= bound else WRONG
    return Verdict(kind, "complex step", trial.problem.name, error, bound, analytic, numeric)
