"""Statistics of test images and of training seeds: intervals, paired tests, calibration."""
