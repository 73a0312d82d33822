"""Finished clips in, data sets out: quality filter, label check, export, report."""
