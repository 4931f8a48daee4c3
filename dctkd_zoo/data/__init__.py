"""Files of a dataset to batches on a device."""
