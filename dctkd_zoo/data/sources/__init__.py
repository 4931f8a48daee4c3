"""Dataset layouts, one module each, with `read(root, split) -> Split`; a `Dataset` names its layout as `source`."""
