"""The ground everything stands on: tensors, nodes, the backward loop, events, errors."""
