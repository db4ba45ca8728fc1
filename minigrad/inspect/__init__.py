"""What a reader looks at: the two paths of a gradient, the curves of a run."""
