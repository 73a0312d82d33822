"""Videos, masks and files in and out; progress and working folders."""
