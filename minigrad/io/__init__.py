"""Files: weights in safetensors and torch formats, checkpoints, training state as JSON."""

from .atomic import atomic_write
from .checkpoint import load_checkpoint, save_checkpoint
from .names import drop_prefix, load_weights, pick_state_dict
from .safetensors import load_safetensors, save_safetensors
from .state import decode_state, encode_state, generator_state, restore_generator
from .torchfile import load_torch
