"""One module per layout of a dataset on disk, each with `read(root, split) -> Split`; a dataset names its own."""
