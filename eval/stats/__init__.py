"""Statistics over test images and training seeds: intervals, paired tests, calibration."""
