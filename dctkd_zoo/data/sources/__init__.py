"""Dataset layouts, one module each, with `read(root, split) -> Split`; a `Dataset` names its own as `source`."""
