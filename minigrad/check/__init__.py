"""Checking gradients against witnesses that know nothing of the backward code."""
