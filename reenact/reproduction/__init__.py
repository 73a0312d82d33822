"""A published experiment from a data set's folder to its tables, in one command."""
