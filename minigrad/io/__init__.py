"""Files: weights in safetensors and torch formats, checkpoints, training state as JSON."""

from minigrad.io.atomic import atomic_write
from minigrad.io.checkpoint import load_checkpoint, save_checkpoint
from minigrad.io.names import drop_prefix, load_weights, pick_state_dict
from minigrad.io.safetensors import load_safetensors, save_safetensors
from minigrad.io.state import decode_state, encode_state, generator_state, restore_generator
from minigrad.io.torchfile import load_torch
