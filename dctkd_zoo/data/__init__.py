"""Datasets: downloads, sources, decoding, the pixel cache and batches on a device."""
