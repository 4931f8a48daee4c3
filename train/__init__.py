"""Training of catalog entries (`python -m train`)."""

import dctkd_zoo  # noqa: F401  installs the finder that maps earlier module names to the current ones
