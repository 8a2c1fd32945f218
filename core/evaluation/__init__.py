"""Measuring what a model has learned."""
