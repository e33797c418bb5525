"""Datasets: their format and content, split and labels, images and their cache."""
