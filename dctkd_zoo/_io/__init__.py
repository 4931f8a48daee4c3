"""dctkd_zoo._io."""
