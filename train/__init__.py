"""Training of the catalog's entries (`python -m train`)."""

import dctkd_zoo  # noqa: F401  modules are also found by their earlier names
