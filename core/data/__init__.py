"""Datasets: what a source is, how images are decoded, split and kept."""
