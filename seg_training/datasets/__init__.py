"""Datasets: each yields BGR images with masks of the eight categories."""
