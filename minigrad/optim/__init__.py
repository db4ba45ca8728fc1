"""Optimisers, learning-rate schedules, gradient clipping."""

from minigrad.optim.adam import Adam, AdamW
from minigrad.optim.clip import clip_grad_norm, clip_grad_value
from minigrad.optim.optimizer import Optimizer
from minigrad.optim.rmsprop import RMSprop
from minigrad.optim.schedule import (
    Constant,
    Cosine,
    LinearDecay,
    MultiStep,
    Schedule,
    WarmUp,
    schedule_from_state,
)
from minigrad.optim.sgd import SGD
